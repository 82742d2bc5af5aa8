package artifact

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/event"
)

// disk is 3 MiB that do not repeat.
var disk = func() []byte {
	b := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

func diskDigest() Digest { return Digest{"sha512", sum512(disk)} }

func ranges(web *artifacttest.Server, path string) []string {
	var out []string
	for _, r := range web.Requests(path) {
		out = append(out, r.Header.Get("Range"))
	}
	return out
}

func wantContent(t *testing.T, d *Downloaded, want []byte) {
	t.Helper()
	b, err := os.ReadFile(d.Path)
	if err != nil || !bytes.Equal(b, want) || d.Size != int64(len(want)) {
		t.Errorf("%d bytes (size %d), want %d: %v", len(b), d.Size, len(want), err)
	}
	dir := filepath.Dir(d.Path)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDownload(t *testing.T) {
	for name, c := range map[string]struct {
		file   artifacttest.File
		faults []artifacttest.Fault
		ranges []string
	}{
		"straight":             {ranges: []string{""}},
		"cut and resumed":      {faults: []artifacttest.Fault{artifacttest.Cut(1 << 20), artifacttest.Cut(1 << 20)}, ranges: []string{"", "bytes=1048576-", "bytes=2097152-"}},
		"cut at the last byte": {faults: []artifacttest.Fault{artifacttest.Cut(len(disk))}, ranges: []string{""}},
		"busy and resumed":     {faults: []artifacttest.Fault{artifacttest.Cut(1 << 20), artifacttest.Status(503)}, ranges: []string{"", "bytes=1048576-", "bytes=1048576-"}},
		"no ranges":            {file: artifacttest.File{NoRanges: true}, faults: []artifacttest.Fault{artifacttest.Cut(1 << 20)}, ranges: []string{"", "bytes=1048576-"}},
		"416 for no reason":    {faults: []artifacttest.Fault{artifacttest.Cut(1 << 20), artifacttest.Status(416)}, ranges: []string{"", "bytes=1048576-", ""}},
		"wrong range":          {faults: []artifacttest.Fault{artifacttest.Cut(1 << 20), artifacttest.Status(206, "Content-Range", "bytes 7-9/100")}, ranges: []string{"", "bytes=1048576-", ""}},
		"206 unasked":          {faults: []artifacttest.Fault{artifacttest.Status(206, "Content-Range", "bytes 0-9/100")}, ranges: []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			web := artifacttest.New(t)
			c.file.Body, c.file.ETag = disk, `"v1"`
			web.Put("/disk.qcow2", c.file)
			web.Fail("/disk.qcow2", c.faults...)
			heard := &recorder{}
			d, err := newFetcher(t).Download(t.Context(), Download{URI: web.URL + "/disk.qcow2", Dir: t.TempDir(), Digest: diskDigest(), Sink: heard})
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, d, disk)
			if diff := cmp.Diff(c.ranges, ranges(web, "/disk.qcow2")); diff != "" {
				t.Error(diff)
			}
			var last event.Event
			for _, e := range heard.events {
				if e.Kind == event.Progress {
					last = e
				}
			}
			if last.Text != "downloading disk.qcow2" || last.Done != int64(len(disk)) || last.Total != int64(len(disk)) {
				t.Errorf("last progress: %+v", last)
			}
		})
	}
}

// interrupt downloads n bytes and cancels when the connection breaks there.
func interrupt(t *testing.T, f *Fetcher, web *artifacttest.Server, d Download, n int) {
	t.Helper()
	web.Fail("/disk.qcow2", artifacttest.Cut(n))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.Sink = event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Warning {
			cancel()
		}
	})
	_, err := f.Download(ctx, d)
	wantCode(t, err, arm.CodeCanceled)
}

func TestDownloadContinuesInAnotherProcess(t *testing.T) {
	const n = 1 << 20
	for name, c := range map[string]struct {
		before, after artifacttest.File
		digest        Digest
		ranges        []string
		want          []byte
	}{
		"same": {
			before: artifacttest.File{Body: disk, ETag: `"v1"`}, after: artifacttest.File{Body: disk, ETag: `"v1"`},
			digest: diskDigest(), ranges: []string{"", "bytes=1048576-"}, want: disk,
		},
		"same, nothing to tell it by but the digest": {
			before: artifacttest.File{Body: disk}, after: artifacttest.File{Body: disk},
			digest: diskDigest(), ranges: []string{"", "bytes=1048576-"}, want: disk,
		},
		"nothing to tell it by": {
			before: artifacttest.File{Body: disk}, after: artifacttest.File{Body: disk},
			ranges: []string{"", ""}, want: disk,
		},
		"changed": {
			before: artifacttest.File{Body: bytes.Repeat([]byte{7}, 2<<20), ETag: `"v0"`}, after: artifacttest.File{Body: disk, ETag: `"v1"`},
			digest: diskDigest(), ranges: []string{"", "bytes=1048576-"}, want: disk,
		},
		"changed unnoticed": {
			before: artifacttest.File{Body: bytes.Repeat([]byte{7}, len(disk))}, after: artifacttest.File{Body: disk},
			digest: diskDigest(), ranges: []string{"", "bytes=1048576-", ""}, want: disk,
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := artifacttest.New(t)
			web.Put("/disk.qcow2", c.before)
			d := Download{URI: web.URL + "/disk.qcow2?sig=SECRET", Dir: t.TempDir(), Digest: c.digest}
			interrupt(t, newFetcher(t), web, d, n)
			for _, file := range files(t, d.Dir) {
				if b, _ := os.ReadFile(filepath.Join(d.Dir, file)); strings.Contains(string(b), "SECRET") {
					t.Errorf("%s holds the signature", file)
				}
			}
			web.Put("/disk.qcow2", c.after)
			got, err := newFetcher(t).Download(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, got, c.want)
			if diff := cmp.Diff(c.ranges, ranges(web, "/disk.qcow2")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDownloadFailuresLeaveNothing(t *testing.T) {
	wrong := Digest{"sha256", sum([]byte("other"))}
	for name, c := range map[string]struct {
		fault artifacttest.Fault
		max   int64
		code  arm.Code
		word  string
	}{
		"wrong digest":   {code: arm.CodeDigestMismatch, word: wrong.Hex},
		"announced huge": {fault: artifacttest.Endless(10 << 30), max: 4 << 20, code: arm.CodeTooLarge, word: "10 GiB"},
		"streamed huge":  {fault: artifacttest.Endless(0), max: 4 << 20, code: arm.CodeTooLarge, word: "4.0 MiB"},
		"no room":        {fault: artifacttest.Endless(1 << 50), max: 1 << 55, code: arm.CodeNoSpace, word: "1.0 PiB"},
		"gone":           {fault: artifacttest.Status(404), code: arm.CodeFetchFailed, word: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			web := artifacttest.New(t)
			web.Put("/disk.qcow2", artifacttest.File{Body: disk})
			if c.fault != nil {
				web.Fail("/disk.qcow2", c.fault)
			}
			dir := t.TempDir()
			_, err := newFetcher(t).Download(t.Context(), Download{URI: web.URL + "/disk.qcow2", Dir: dir, Digest: wrong, MaxBytes: c.max})
			wantCode(t, err, c.code, c.word)
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if n := len(web.Requests("/disk.qcow2")); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestDownloadOneAtATime(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/disk.qcow2", artifacttest.File{Body: disk})
	release := make(chan struct{})
	asked := make(chan struct{})
	web.Fail("/disk.qcow2", func(w http.ResponseWriter, r *http.Request, f artifacttest.File) {
		close(asked)
		artifacttest.Wait(release)(w, r, f)
	})
	dir := t.TempDir()
	f := newFetcher(t)
	d := Download{URI: web.URL + "/disk.qcow2", Dir: dir, Digest: diskDigest()}

	waiting := make(chan struct{})
	second := d
	second.Sink = event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Info && strings.Contains(e.Text, "waiting") {
			close(waiting)
		}
	})
	type result struct {
		d   *Downloaded
		err error
	}
	results := make(chan result, 2)
	go func() {
		got, err := f.Download(t.Context(), d)
		results <- result{got, err}
	}()
	<-asked // the first holds the lock
	go func() {
		got, err := f.Download(t.Context(), second)
		results <- result{got, err}
	}()
	<-waiting

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Download(cancelled, d)
	wantCode(t, err, arm.CodeCanceled)

	close(release)
	for range 2 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		if err := r.d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDownloadFromMirrorDirectory(t *testing.T) {
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "disk.qcow2"), disk, 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFetcher(t, func(c *Config) { c.Mirrors = []Mirror{{"https://img.example/", tree}} })
	d := Download{URI: "https://img.example/disk.qcow2", Dir: t.TempDir(), Digest: diskDigest()}
	got, err := f.Download(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, got, disk)
	d.Digest = Digest{"sha256", sum(nil)}
	_, err = f.Download(t.Context(), d)
	wantCode(t, err, arm.CodeDigestMismatch, "https://img.example/disk.qcow2")
	if left := files(t, d.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	d.URI = "https://img.example/none"
	_, err = f.Download(t.Context(), d)
	wantCode(t, err, arm.CodeFetchFailed, "none")
}

func TestPruneDownloads(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/disk.qcow2", artifacttest.File{Body: disk, ETag: `"v1"`})
	dir := t.TempDir()
	interrupt(t, newFetcher(t), web, Download{URI: web.URL + "/disk.qcow2", Dir: dir, Digest: diskDigest()}, 1<<20)
	if err := PruneDownloads(dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 3 {
		t.Errorf("a fresh part is gone: %v", left)
	}
	if err := PruneDownloads(dir, 0); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
