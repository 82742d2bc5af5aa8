package artifact

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
)

var errNoSpace = &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, content string) Blob {
	t.Helper()
	b, err := s.Put(t.Context(), "x", strings.NewReader(content), "")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStoreKeepsWhatItIsGiven(t *testing.T) {
	s := newStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		content := rapid.SliceOf(rapid.Byte()).Draw(rt, "content")
		want := Blob{SHA256: sum(content), Size: int64(len(content)), Path: filepath.Join(s.dir, "sha256", sum(content)[:2], sum(content))}
		got, err := s.Put(t.Context(), "x", bytes.NewReader(content), sum(content))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			rt.Fatalf("%v %s", err, diff)
		}
		f, err := s.Open(got.SHA256)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		if back, err := io.ReadAll(f); err != nil || !bytes.Equal(back, content) {
			rt.Fatalf("read %q, %v", back, err)
		}
	})
	if got := files(t, filepath.Join(s.dir, "tmp")); len(got) > 0 {
		t.Errorf("temporary files are left: %v", got)
	}
}

func TestStoreRefuses(t *testing.T) {
	s := newStore(t)
	_, err := s.Put(t.Context(), "x.sh", strings.NewReader("a"), sum([]byte("b")))
	wantCode(t, err, arm.CodeDigestMismatch, "x.sh", sum([]byte("a")), sum([]byte("b")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Put(ctx, "x", strings.NewReader("a"), "")
	wantCode(t, err, arm.CodeCanceled)
	_, err = s.Open(sum([]byte("a")))
	wantCode(t, err, arm.CodeNotFound)
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("A", 64)} {
		_, err = s.Open(bad)
		wantCode(t, err, arm.CodeNotFound)
	}
	if got := files(t, s.dir); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestStoreDetectsAndHealsDamage(t *testing.T) {
	s := newStore(t)
	b := put(t, s, "content")
	if err := os.Chmod(b.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.Path, []byte("c0ntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Open(b.SHA256)
	wantCode(t, err, arm.CodeCorrupt, b.SHA256)
	put(t, s, "content")
	f, err := s.Open(b.SHA256)
	if err != nil {
		t.Fatalf("storing it again does not heal it: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGC(t *testing.T) {
	s := newStore(t)
	live, dead, fresh := put(t, s, "live"), put(t, s, "dead"), put(t, s, "fresh")
	old := time.Now().Add(-2 * time.Hour)
	for _, b := range []Blob{live, dead} {
		if err := os.Chtimes(b.Path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	kept := record{URI: "a", SHA256: live.SHA256, validator: validator{ETag: `"1"`}}
	gone := record{URI: "b", SHA256: dead.SHA256, validator: validator{ETag: `"1"`}}
	for name, r := range map[string]record{"kept.json": kept, "gone.json": gone} {
		if err := r.write(filepath.Join(s.dir, "http", name)); err != nil {
			t.Fatal(err)
		}
	}
	swept, err := s.GC(t.Context(), func(d string) bool { return d == live.SHA256 }, time.Hour)
	if diff := cmp.Diff(Swept{Blobs: 1, Bytes: 4}, swept); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	for _, b := range []Blob{live, fresh} {
		if _, err := os.Stat(b.Path); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"kept.json"}, files(t, filepath.Join(s.dir, "http"))); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.GC(ctx, func(string) bool { return false }, 0); err == nil {
		t.Error("a cancelled GC succeeds")
	}
}

// A writer that died leaves an unlocked file; one that lives holds its lock.
func TestOpenStoreSweepsDeadWriters(t *testing.T) {
	s := newStore(t)
	dead := filepath.Join(s.dir, "tmp", "put-dead")
	if err := os.WriteFile(dead, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	tmp, release, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := OpenStore(s.dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Base(tmp.Name())}, files(t, filepath.Join(s.dir, "tmp"))); diff != "" {
		t.Error(diff)
	}
}

func TestStoreConcurrently(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for worker := range 4 {
		wg.Go(func() {
			s, err := OpenStore(dir)
			if err != nil {
				errs <- err
				return
			}
			for i := range 12 {
				content := fmt.Sprint("content ", i%5)
				if _, err := s.Put(t.Context(), "x", strings.NewReader(content), sum([]byte(content))); err != nil {
					errs <- err
				}
				if worker == 0 {
					if _, err := s.GC(t.Context(), func(string) bool { return false }, time.Hour); err != nil {
						errs <- err
					}
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(files(t, s.dir)); got != 5 {
		t.Errorf("%d files are left, want 5: %v", got, files(t, s.dir))
	}
}

func TestParseDigest(t *testing.T) {
	a, b := sum([]byte("x")), sum512([]byte("x"))
	for in, want := range map[string]Digest{
		"":                              {},
		a:                               {"sha256", a},
		"SHA256:" + strings.ToUpper(a):  {"sha256", a},
		b:                               {"sha512", b},
		"sha512:" + b:                   {"sha512", b},
		" " + strings.ToUpper(a) + "\n": {"sha256", a},
	} {
		got, err := ParseDigest(in)
		if err != nil || got != want {
			t.Errorf("ParseDigest(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"x", "abcd", "sha512:" + a, "md5:" + a, a + "00", "sha256:"} {
		_, err := ParseDigest(in)
		if in == "sha256:" && err == nil {
			t.Errorf("%q is accepted", in)
		}
		wantCode(t, err, arm.CodeUsage)
	}
}
