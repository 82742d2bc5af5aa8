package artifact

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/event"
)

var script = []byte("#!/bin/sh\necho hello\n")

func TestFreezeWeb(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	z := newFreezer(t)
	got, err := z.Freeze(t.Context(), web.URL+"/a.sh?sig=SECRET", strings.ToUpper(sum(script)))
	if err != nil {
		t.Fatal(err)
	}
	want := Frozen{URI: web.URL + "/a.sh?sig=REDACTED", SHA256: sum(script), Size: int64(len(script)), Path: z.Store.path(sum(script))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(got.Path); err != nil || string(b) != string(script) {
		t.Errorf("stored %q, %v", b, err)
	}
}

// Every way in which a fetch can fail: its code, its words, how often it was
// tried, and that nothing is left.
func TestFreezeFailures(t *testing.T) {
	broken := artifacttest.Status(503)
	cut := artifacttest.Cut(5)
	all := func(f artifacttest.Fault) []artifacttest.Fault {
		return []artifacttest.Fault{f, f, f, f, f, f, f, f, f, f}
	}
	for name, c := range map[string]struct {
		faults   []artifacttest.Fault
		sha256   string
		code     arm.Code
		words    []string
		requests int
	}{
		"wrong digest":    {sha256: sum([]byte("other")), code: arm.CodeDigestMismatch, words: []string{sum(script), sum([]byte("other"))}, requests: 1},
		"digest not hex":  {sha256: "zz", code: arm.CodeUsage, words: []string{"zz"}},
		"not found":       {faults: all(artifacttest.Status(404)), code: arm.CodeFetchFailed, words: []string{"404", "check the address"}, requests: 1},
		"forbidden":       {faults: all(artifacttest.Status(403)), code: arm.CodeFetchFailed, words: []string{"403", "SAS"}, requests: 1},
		"always 503":      {faults: all(broken), code: arm.CodeFetchFailed, words: []string{"all 10 attempts", "attempts 1-10: the server answered 503"}, requests: 10},
		"always cut":      {faults: all(cut), code: arm.CodeFetchFailed, words: []string{"connection was cut"}, requests: 10},
		"announced huge":  {faults: all(artifacttest.Endless(10 << 30)), code: arm.CodeTooLarge, words: []string{"10 GiB", "1.0 MiB"}, requests: 1},
		"streamed huge":   {faults: all(artifacttest.Endless(0)), code: arm.CodeTooLarge, words: []string{"1.0 MiB"}, requests: 1},
		"encoded":         {faults: all(artifacttest.Status(200, "Content-Encoding", "gzip")), code: arm.CodeFetchFailed, words: []string{"gzip"}, requests: 1},
		"304 unasked":     {faults: all(artifacttest.Status(304)), code: arm.CodeFetchFailed, words: []string{"304"}, requests: 1},
		"redirect loop":   {faults: append(all(artifacttest.Redirect("/a.sh")), artifacttest.Redirect("/a.sh")), code: arm.CodeFetchFailed, words: []string{"more than 10 times"}, requests: 11},
		"redirect away":   {faults: all(artifacttest.Redirect("http://127.0.0.2:1/")), code: arm.CodeFetchRefused, words: []string{"127.0.0.2", "loopback", "--allow-fetch 127.0.0.2/32"}, requests: 1},
		"redirect scheme": {faults: all(artifacttest.Redirect("file:///etc/passwd")), code: arm.CodeFetchRefused, words: []string{"file"}, requests: 1},
		"redirect bad":    {faults: all(artifacttest.Redirect("http://u:PASSWORD@h/%zz?sig=SECRET")), code: arm.CodeFetchFailed, requests: 10},
	} {
		t.Run(name, func(t *testing.T) {
			web := artifacttest.New(t)
			web.Put("/a.sh", artifacttest.File{Body: script})
			web.Fail("/a.sh", c.faults...)
			z := newFreezer(t, func(cfg *Config) { cfg.MaxBytes = 1 << 20 })
			got, err := z.Freeze(t.Context(), web.URL+"/a.sh?sig=SECRET", c.sha256)
			wantCode(t, err, c.code, append(c.words, "/a.sh?sig=REDACTED")...)
			if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "PASSWORD") {
				t.Errorf("%q shows a secret", err)
			}
			if diff := cmp.Diff(Frozen{}, got); diff != "" {
				t.Error(diff)
			}
			if n := len(web.Requests("/a.sh")); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			if left := files(t, z.Store.dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFreezeRecovers(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	web.Fail("/a.sh", artifacttest.Status(503, "Retry-After", "0"), artifacttest.Cut(3), artifacttest.Status(429))
	heard := &recorder{}
	z := newFreezer(t)
	z.Sink = heard
	if _, err := z.Freeze(t.Context(), web.URL+"/a.sh", sum(script)); err != nil {
		t.Fatal(err)
	}
	warnings := heard.texts(event.Warning)
	if len(warnings) != 3 || !strings.Contains(warnings[1], "Downloading external file ("+web.URL+"/a.sh) [attempt 2 of 10] failed: ") {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestFreezeSlowServers(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	stall := artifacttest.Stall(3)

	t.Run("stalled, then fine", func(t *testing.T) {
		web.Fail("/a.sh", stall)
		z := newFreezer(t, func(c *Config) { c.Stall = 50 * time.Millisecond })
		heard := &recorder{}
		z.Sink = heard
		if _, err := z.Freeze(t.Context(), web.URL+"/a.sh", sum(script)); err != nil {
			t.Fatal(err)
		}
		if w := heard.texts(event.Warning); len(w) != 1 || !strings.Contains(w[0], "stalled") {
			t.Errorf("warnings: %q", w)
		}
	})
	t.Run("no header, then fine", func(t *testing.T) {
		web.Fail("/a.sh", artifacttest.Wait(nil))
		z := newFreezer(t, func(c *Config) { c.Stall = 50 * time.Millisecond })
		if _, err := z.Freeze(t.Context(), web.URL+"/a.sh", sum(script)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		web.Fail("/a.sh", stall)
		z := newFreezer(t, func(c *Config) { c.Timeout = 50 * time.Millisecond })
		_, err := z.Freeze(t.Context(), web.URL+"/a.sh", "")
		wantCode(t, err, arm.CodeFetchFailed, "time limit of 50ms")
		if left := files(t, z.Store.dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("caller's deadline", func(t *testing.T) {
		web.Fail("/a.sh", stall)
		z := newFreezer(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := z.Freeze(ctx, web.URL+"/a.sh", "")
		wantCode(t, err, arm.CodeTimeout)
	})
}

func TestFreezeCancelled(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	web.Fail("/a.sh", artifacttest.Status(503))
	ctx, cancel := context.WithCancel(t.Context())
	z := newFreezer(t, func(c *Config) { c.BackoffUnit = time.Hour })
	z.Sink = event.SinkFunc(func(event.Event) { cancel() }) // while it waits for the second try
	_, err := z.Freeze(ctx, web.URL+"/a.sh", "")
	wantCode(t, err, arm.CodeCanceled, "503")
	if left := files(t, z.Store.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFreezeRevalidates(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for name, f := range map[string]artifacttest.File{
		"etag": {Body: script, ETag: `"v1"`},
		"date": {Body: script, Modified: old},
	} {
		t.Run(name, func(t *testing.T) {
			web := artifacttest.New(t)
			web.Put("/a.sh", f)
			z := newFreezer(t)
			z.Revalidate = true
			freeze := func(uri, want string, revalidated bool) {
				t.Helper()
				got, err := z.Freeze(t.Context(), web.URL+uri, want)
				if err != nil {
					t.Fatal(err)
				}
				if got.Revalidated != revalidated {
					t.Errorf("revalidated %t, want %t", got.Revalidated, revalidated)
				}
				if b, err := os.ReadFile(got.Path); err != nil || sum(b) != got.SHA256 {
					t.Errorf("stored %q, %v", b, err)
				}
			}
			freeze("/a.sh?sig=one", "", false)
			freeze("/a.sh?sig=two", sum(script), true) // a renewed signature
			// Damage is healed by fetching again.
			path := z.Store.path(sum(script))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			freeze("/a.sh", "", false)
			freeze("/a.sh", "", true)
			changed := f
			changed.Body = []byte("echo changed")
			if changed.ETag != "" {
				changed.ETag = `"v2"`
			} else {
				changed.Modified = old.Add(time.Minute)
			}
			web.Put("/a.sh", changed)
			freeze("/a.sh", "", false)
			_, err := z.Freeze(t.Context(), web.URL+"/a.sh", sum(script))
			wantCode(t, err, arm.CodeDigestMismatch)
			z.Revalidate = false
			freeze("/a.sh", "", false)
		})
	}
}

// A change within the second of the first fetch is not hidden by its date.
func TestFreshDatesDoNotRevalidate(t *testing.T) {
	now := time.Now()
	h := http.Header{}
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("Last-Modified", now.UTC().Format(http.TimeFormat))
	if v := validatorOf(h); !v.isZero() {
		t.Errorf("%+v", v)
	}
	h.Set("Last-Modified", now.Add(-2*time.Second).UTC().Format(http.TimeFormat))
	if v := validatorOf(h); v.LastModified == "" {
		t.Error("an older date is not used")
	}
	h.Set("ETag", `W/"1"`)
	h.Del("Last-Modified")
	if v := validatorOf(h); v.ETag == "" || v.ifRange() != "" {
		t.Errorf("weak tag: %+v, If-Range %q", v, v.ifRange())
	}
}

func TestFreezeFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil { // sparse
		t.Fatal(err)
	}
	local := newFreezer(t, func(c *Config) { c.Local = true })
	local.Dir = dir
	for _, uri := range []string{"a.sh", "./a.sh", dir + "/a.sh", "file://" + dir + "/a.sh", "FILE://localhost" + dir + "/a.sh"} {
		got, err := local.Freeze(t.Context(), uri, sum(script))
		if err != nil || got.SHA256 != sum(script) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for uri, c := range map[string]struct {
		code arm.Code
		word string
	}{
		"missing.sh":           {arm.CodeFetchFailed, "missing.sh"},
		".":                    {arm.CodeFetchFailed, "not a regular file"},
		"fifo":                 {arm.CodeFetchFailed, "not a regular file"},
		"huge":                 {arm.CodeTooLarge, "1.0 TiB"},
		"":                     {arm.CodeFetchFailed, "empty"},
		"file://other/etc/x":   {arm.CodeFetchRefused, "another host"},
		"ftp://a.example/x":    {arm.CodeFetchRefused, "ftp"},
		"https:///x":           {arm.CodeFetchFailed, "no host"},
		"https://a.example:x/": {arm.CodeFetchFailed, "parse"},
	} {
		_, err := local.Freeze(t.Context(), uri, "")
		wantCode(t, err, c.code, c.word)
	}
	// Changed content is noticed although the name is the same.
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := local.Freeze(t.Context(), "a.sh", sum(script))
	wantCode(t, err, arm.CodeDigestMismatch)

	service := newFreezer(t)
	for _, uri := range []string{dir + "/a.sh", "a.sh", "file://" + dir + "/a.sh"} {
		_, err := service.Freeze(t.Context(), uri, "")
		wantCode(t, err, arm.CodeFetchRefused, "local builds only")
	}
}

func TestFreezeFromMirrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tree/sub/a.sh", "outside"} {
		if err := os.WriteFile(filepath.Join(dir, name), script, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "tree/link")); err != nil {
		t.Fatal(err)
	}
	web := artifacttest.New(t)
	web.Put("/base/x.sh", artifacttest.File{Body: script})
	web.Put("/base/y.sh", artifacttest.File{Body: script})
	web.Fail("/base/moved.sh", artifacttest.Redirect("/base/y.sh"))
	web.Fail("/base/away.sh", artifacttest.Redirect("/private"))
	// The mirror's own address is refused to everything but the mirror.
	z := newFreezer(t, func(c *Config) {
		c.Allow = nil
		c.Mirrors = []Mirror{{"https://dir.example/", dir + "/tree"}, {"https://web.example/pub", web.URL + "/base"}}
	})
	for _, uri := range []string{"https://dir.example/sub/a.sh?sig=1", "https://dir.example/sub/../../sub/a.sh", "https://web.example/pub/x.sh", "https://web.example/pub/moved.sh"} {
		if got, err := z.Freeze(t.Context(), uri, ""); err != nil || got.SHA256 != sum(script) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for uri, code := range map[string]arm.Code{
		"https://dir.example/nothing":          arm.CodeFetchFailed,
		"https://dir.example/link":             arm.CodeFetchFailed, // leaves the directory
		"https://dir.example/":                 arm.CodeFetchFailed,
		"https://web.example/pub/away.sh":      arm.CodeFetchRefused,
		web.URL + "/base/x.sh":                 arm.CodeFetchRefused,
		"https://web.example/pub/missing?sig=": arm.CodeFetchFailed,
	} {
		_, err := z.Freeze(t.Context(), uri, "")
		wantCode(t, err, code)
	}
}

func TestExtraCA(t *testing.T) {
	web := artifacttest.NewTLS(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	_, err := newFreezer(t).Freeze(t.Context(), web.URL+"/a.sh", "")
	wantCode(t, err, arm.CodeFetchFailed, "certificate is not trusted", "--ca-file")
	if n := len(web.Requests("/a.sh")); n != 0 {
		t.Errorf("%d requests", n)
	}

	file := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := func(c *Config) { c.CAFile = file }
	if _, err := newFreezer(t, trusting).Freeze(t.Context(), web.URL+"/a.sh", ""); err != nil {
		t.Error(err)
	}
	// From https to http only with the content pinned.
	plain := artifacttest.New(t)
	plain.Put("/a.sh", artifacttest.File{Body: script})
	web.Fail("/a.sh", artifacttest.Redirect(plain.URL+"/a.sh"), artifacttest.Redirect(plain.URL+"/a.sh"))
	_, err = newFreezer(t, trusting).Freeze(t.Context(), web.URL+"/a.sh", "")
	wantCode(t, err, arm.CodeFetchRefused, "https to http")
	if _, err := newFreezer(t, trusting).Freeze(t.Context(), web.URL+"/a.sh", sum(script)); err != nil {
		t.Error(err)
	}

	_, err = New(Config{CAFile: file + ".missing"})
	wantCode(t, err, arm.CodeUsage, "missing")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{CAFile: file, Allow: []netip.Prefix{loopback1}})
	wantCode(t, err, arm.CodeUsage, "no PEM certificate")
}

func TestDocuments(t *testing.T) {
	web := artifacttest.New(t)
	modified := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	web.Put("/SUMS", artifacttest.File{Body: script, Modified: modified})
	f := newFetcher(t)
	want := Meta{LastModified: modified, Size: int64(len(script))}
	body, meta, err := f.Bytes(t.Context(), web.URL+"/SUMS", 1<<10, event.Discard)
	if err != nil || string(body) != string(script) || meta != want {
		t.Errorf("%q %+v %v", body, meta, err)
	}
	meta, err = f.Head(t.Context(), web.URL+"/SUMS", nil)
	if err != nil || meta != want {
		t.Errorf("%+v %v", meta, err)
	}
	_, _, err = f.Bytes(t.Context(), web.URL+"/SUMS", 3, nil)
	wantCode(t, err, arm.CodeTooLarge)
	_, err = f.Head(t.Context(), web.URL+"/none", nil)
	wantCode(t, err, arm.CodeFetchFailed, "404")
}
