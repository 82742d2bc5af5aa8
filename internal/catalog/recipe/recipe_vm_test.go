//go:build vm

package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// TestMake installs packages, which takes a minute or more.
func TestMake(t *testing.T) {
	dir := t.TempDir()
	dest := filepath.Join(dir, "disk.raw")
	var steps []string
	err := Debian12().Make(t.Context(), dest, Options{Events: event.SinkFunc(func(e event.Event) {
		steps = append(steps, e.Text)
		t.Log(e.Kind, e.Text)
	})})
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) < 5 {
		t.Errorf("only %d steps were reported", len(steps))
	}
	info, err := os.Stat(dest)
	if err != nil || info.Size() != DiskBytes {
		t.Errorf("%v, %v", info, err)
	}
	onlyFile(t, dir, "disk.raw")
}

func TestMakeCancelled(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	// Mapped users must reach the temporary directory.
	for d := tmp; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user said so")
	var since time.Time
	err := Debian12().Make(ctx, filepath.Join(dir, "disk.raw"), Options{Events: event.SinkFunc(func(e event.Event) {
		if e.Text == "debian-12: extracting archives..." {
			since = time.Now()
			cancel(cause)
		}
	})})
	if !errors.Is(err, cause) || arm.CodeOf(err) != arm.CodeCanceled {
		t.Errorf("%v", err)
	}
	if took := time.Since(since); took > 10*time.Second {
		t.Errorf("it took %v to stop and clean up", took)
	}
	onlyFile(t, dir, "")
	onlyFile(t, tmp, "")
}

// onlyFile checks that dir has nothing but name.
func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s was left in %s", e.Name(), dir)
		}
	}
}
