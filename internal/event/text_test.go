package event

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const testSecret = "p@ss'w\"ord/äö&x=1+2"

func TestRedactorKnowsTheForms(t *testing.T) {
	var r Redactor
	r.Add(testSecret, "abc", "", "\n")
	quoted, err := json.Marshal(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"plain": testSecret, "query": url.QueryEscape(testSecret), "path": url.PathEscape(testSecret),
		"hex": hex.EncodeToString([]byte(testSecret)), "json": string(quoted),
		"shell":  "'" + strings.ReplaceAll(testSecret, "'", `'\''`) + "'",
		"base64": base64.StdEncoding.EncodeToString([]byte(testSecret)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(testSecret)),
		"basic 0": base64.StdEncoding.EncodeToString([]byte("usr" + testSecret)),
		"basic 1": base64.StdEncoding.EncodeToString([]byte("user" + testSecret + "tail")),
		"basic 2": base64.URLEncoding.EncodeToString([]byte("user:" + testSecret + "tail")),
	} {
		got := r.Redact("x " + text + " y")
		if !strings.Contains(got, Redacted) {
			t.Errorf("%s: %q is shown", name, got)
		}
		if keep := len("x  y") + len(Redacted) + 24; len(got) > keep {
			t.Errorf("%s: too much is left: %q", name, got)
		}
	}
	if got := r.Redact("abc"); got != "abc" {
		t.Errorf("a short secret turns %q to %q", "abc", got)
	}
	var none *Redactor
	if got := none.Redact("x"); got != "x" {
		t.Errorf("no redactor: %q", got)
	}
}

func TestRedactorTakesTheLongest(t *testing.T) {
	var r Redactor
	r.Add("token")
	r.Add("token-and-more", "token-and")
	if got := r.Redact("token-and-more token"); got != "*** ***" {
		t.Errorf("%q", got)
	}
}

func TestRedactorSplitsKeys(t *testing.T) {
	var r Redactor
	r.Add("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\r\nkqhkiG9w0BAQEFAASC\nshort\n-----END PRIVATE KEY-----\n")
	for line, want := range map[string]string{
		"  MIIEvQIBADANBg": "  ***", "kqhkiG9w0BAQEFAASC": "***", "short": "short", "-----BEGIN PRIVATE KEY-----": "-----BEGIN PRIVATE KEY-----",
	} {
		if got := r.Redact(line); got != want {
			t.Errorf("%q became %q, want %q", line, got, want)
		}
	}
	long := strings.Repeat("0123456789abcdef", 2000)
	r.Add(long)
	if got := r.Redact(long); strings.Trim(got, "*") != "" {
		t.Errorf("%d bytes of a long secret are left", len(strings.Trim(got, "*")))
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                            "plain\ttext\n",
		"\x1b[1;31mred\x1b[0m":                     "red",
		"\x1b]0;title\abody":                       "body",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"a\x1b(Bb\x1b=c":                           "abc",
		"\u009b31mred":                             "red",
		"bell\a back\b nul\x00 del\x7f":            "bell back nul del",
		"bad\xff\xc3utf8":                          "bad\ufffd\ufffdutf8",
		"\x1b":                                     "",
		"\x1b[31":                                  "",
		"\x1b]0;no end\nnext":                      "\nnext",
		"\x1bPdata\x1b\\after":                     "after",
		"exe\u202etxt.gpj":                         "exetxt.gpj",
		"日本語 ü":                                    "日本語 ü",
		"carriage\rreturn":                         "carriagereturn",
		"\x1b\x1b[31mx":                            "x",
		"\x1b[3\n1m":                               "\n1m",
	} {
		if got := Sanitize(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// lines collects what a LineWriter emits.
func lines(t *testing.T, r *Redactor, chunks ...string) []string {
	t.Helper()
	var got []string
	w := NewLineWriter(SinkFunc(func(e Event) {
		if e.Kind != Output || e.Step != 3 || e.Stream != "stderr" {
			t.Errorf("event %+v", e)
		}
		got = append(got, r.Redact(e.Text))
	}), r, Event{Step: 3, Stream: "stderr"})
	w.now = func() time.Time { return time.Unix(1000, 0) }
	for _, c := range chunks {
		if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(c), err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLineWriter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"lines", []string{"a\nb", "c\n\nd"}, []string{"a", "bc", "", "d"}},
		{"crlf", []string{"a\r\nb\r", "\n", "\r\n"}, []string{"a", "b", ""}},
		{"progress bar", []string{"1%\r2%\r3%", "\r100%\r\n", "x"}, []string{"1%", "100%", "x"}},
		{"no end", []string{"tail\r"}, []string{"tail"}},
		{"split rune", []string{"\xc3", "\xa4\n"}, []string{"ä"}},
		{"invalid", []string{"\xff\n"}, []string{"\ufffd"}},
		{"only escapes", []string{"\x1b[K\n", "\x1b[2Kx\n"}, []string{"x"}},
		{"nothing", nil, nil},
	} {
		if diff := cmp.Diff(tt.want, lines(t, nil, tt.chunks...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestLineWriterBoundsLines(t *testing.T) {
	in := strings.Repeat("é", 100_000)
	got := lines(t, nil, in, in+"\n")
	for _, line := range got {
		if len(line) > MaxLine || !utf8.ValidString(line) {
			t.Fatalf("a line of %d bytes", len(line))
		}
	}
	if strings.Join(got, "") != in+in {
		t.Error("text was lost or changed")
	}
}

// TestNoSecretSurvivesChunks: however output is cut into writes and however long
// its lines are, no secret shows.
func TestNoSecretSurvivesChunks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		secret := rapid.StringMatching(`[a-z0-9]{4,60}`).Draw(rt, "secret")
		var r Redactor
		r.Add(secret)
		before := strings.Repeat(".", rapid.IntRange(MaxLine-2*len(secret), MaxLine+2*len(secret)).Draw(rt, "before"))
		text := before + secret + strings.Repeat("-", rapid.IntRange(0, 2*MaxLine).Draw(rt, "after")) + secret
		var chunks []string
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "chunk")
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		got := strings.Join(lines(t, &r, chunks...), "")
		if strings.Count(got, Redacted) != 2 || len(got) != len(text)-2*len(secret)+2*len(Redacted) {
			rt.Fatalf("%d of 2 secrets were found", strings.Count(got, Redacted))
		}
	})
}

func FuzzSanitize(f *testing.F) {
	for _, seed := range []string{"a", "\x1b[31mx", "\x1b]0;x\a", "\x9b", "\u009b1", "\x1bP\x1b\\", "\xff", "\u202e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Sanitize(in)
		if !utf8.ValidString(out) {
			t.Fatalf("%q became invalid %q", in, out)
		}
		for _, r := range out {
			if unicode.IsControl(r) && r != '\t' && r != '\n' {
				t.Fatalf("%q became %q", in, out)
			}
		}
		if again := Sanitize(out); again != out {
			t.Fatalf("not stable: %q, %q", out, again)
		}
	})
}

func FuzzLineWriter(f *testing.F) {
	f.Add("a\nb", 1)
	f.Add("a\r\nb\r\x1b[0m", 3)
	f.Fuzz(func(t *testing.T, in string, at int) {
		if len(in) > 1<<16 {
			return
		}
		at = min(max(at, 0), len(in))
		whole, split := lines(t, nil, in), lines(t, nil, in[:at], in[at:])
		if diff := cmp.Diff(whole, split); diff != "" {
			t.Fatalf("the cut at %d shows (-whole +split):\n%s", at, diff)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"offset":0,"kind":"info"}` + "\n"))
	f.Add([]byte("{\"offset\":-1,\n{}\n\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := reader{in: bufio.NewReader(bytes.NewReader(content)), from: 1}
		n := 0
		r.drain(func(e Event, err error) bool {
			if err != nil || e.Offset < 1 {
				t.Fatalf("%+v, %v", e, err)
			}
			n++
			return true
		})
		if r.consumed > int64(len(content)) || int64(n) > r.consumed {
			t.Fatalf("%d events in %d of %d bytes", n, r.consumed, len(content))
		}
	})
}
