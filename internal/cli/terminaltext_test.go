package cli

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/event"
)

func TestTerminalText(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain":            {"Setting up nginx", "Setting up nginx"},
		"colours":          {"\x1b[1;31mred\x1b[0m text", "red text"},
		"title":            {"\x1b]0;owned\x07after", "after"},
		"title with ST":    {"\x1b]0;owned\x1b\\after", "after"},
		"open string":      {"\x1b]0;never ends", "0;never ends"},
		"device control":   {"\x1bPq#0~\x1b\\x", "x"},
		"clear screen":     {"\x1b[2J\x1b[Hgone?", "gone?"},
		"charset":          {"\x1b(0lqqk", "lqqk"},
		"reset":            {"\x1bcx", "x"},
		"C1 CSI":           {"\u009b31mred", "red"},
		"C1 OSC":           {"\u009d0;t\u009cx", "x"},
		"raw C1 byte":      {"\x9b31mred", "\ufffd31mred"},
		"lone escape":      {"end\x1b", "end"},
		"cut sequence":     {"end\x1b[12", "end"},
		"overwritten":      {"10%\r20%\r100%\r\n", "100%"},
		"tabs":             {"a\tb\tc", "a       b       c"},
		"bell and back":    {"a\x07\x08b\x00\x7f", "ab"},
		"invalid UTF-8":    {"caf\xe9", "caf\ufffd"},
		"right to left":    {"user\u202etxt.exe", "usertxt.exe"},
		"line feed inside": {"a\nb", "a b"},
		"accents stay":     {"déjà vu 漢字", "déjà vu 漢字"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := terminalText(test.in); got != test.want {
				t.Errorf("terminalText(%q) is %q, want %q", test.in, got, test.want)
			}
		})
	}
}

func TestTerminalTextBoundsLongLines(t *testing.T) {
	for name, line := range map[string]string{
		"letters":     strings.Repeat("x", 1<<20),
		"openers":     strings.Repeat("\x1b]", 1<<19),
		"wide":        strings.Repeat("漢", 1<<18),
		"tabs":        strings.Repeat("\t", 1<<20),
		"overwritten": strings.Repeat("\r", 1<<20) + strings.Repeat("y", 1<<20),
	} {
		began := time.Now()
		if got := terminalText(line); len(got) > maxTextBytes+64 {
			t.Errorf("%s: %d bytes of 1 MB are left", name, len(got))
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	if got := terminalText(strings.Repeat("x", 1<<20)); !strings.HasSuffix(got, "x… (line of 1.0 MiB)") {
		t.Errorf("a cut line ends in %q", got[len(got)-30:])
	}
}

func TestHostileEventsStayInTheirLines(t *testing.T) {
	const evil = "a\x1b[2Jb\r\n\u202ec\xffd\u009b5m"
	tape := newTape()
	tape.add(0, event.Event{Kind: event.RunStarted, Text: evil})
	f := &event.Failure{Message: "x\n" + evil, Hint: evil, Target: evil}
	for _, kind := range []event.Kind{event.PhaseStarted, event.StepStarted, event.Output, event.Progress, event.Decision,
		event.Warning, event.Info, event.Result, event.StepFinished, event.PhaseFinished, event.RunFinished, evil} {
		tape.add(time.Second, event.Event{Kind: kind, Phase: evil, Step: 1, StepName: evil, Stream: evil, Text: evil, Target: evil, State: evil, Done: 1, Total: 9, Err: f})
	}
	for name, text := range map[string]string{
		"plain": show(t, ProgressPlain, tape.channel(), ProgressOptions{}),
		"view":  viewAfter(tape.events, 200, 50).View().Content,
	} {
		for _, r := range strings.ReplaceAll(text, "\n", "") {
			if unicode.IsControl(r) || reorders(r) {
				t.Errorf("%s: %U reaches the terminal in %q", name, r, text)
			}
		}
		if !utf8.ValidString(text) {
			t.Errorf("%s is not UTF-8", name)
		}
	}
}

func FuzzTerminalText(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07", "\x1bP\x1b\\", "10%\r20%", "\xc2\x9b1m", "\xff\xfe", "a\tb", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := terminalText(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q is not UTF-8", got)
		}
		if len(got) > maxTextBytes+64 {
			t.Errorf("%d bytes of %d", len(got), len(s))
		}
		for _, r := range got {
			if unicode.IsControl(r) || reorders(r) {
				t.Errorf("%U in %q", r, got)
			}
		}
		if len(got) < maxTextBytes && terminalText(got) != got {
			t.Errorf("%q changes when it is cleaned again", got)
		}
	})
}
