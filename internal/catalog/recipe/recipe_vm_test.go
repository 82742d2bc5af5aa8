//go:build vm

package recipe

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// TestBase installs packages, which takes a minute or more, unless an earlier run
// of these tests has left the disk in the user's cache.
func TestBase(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	events := event.SinkFunc(func(e event.Event) { t.Log(e.Kind, e.Text) })
	path, err := Debian12().Base(t.Context(), filepath.Join(cache, "goldsmith", "bases"), Options{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != DiskBytes {
		t.Errorf("%v, %v", info, err)
	}
	at := path + "?offset=" + strconv.FormatInt(rootPart.start, 10)
	for name, want := range map[string]string{
		"/etc/shadow":                 "Group:    42", // owners survive the way through a user namespace
		"/usr/bin/sudo":               "Mode:  04755",
		"/usr/sbin/waagent":           "Type: regular",
		"/usr/lib/systemd/systemd":    "Type: regular",
		"/etc/grub.d/enable_cloud":    "Type: regular",
		"/boot/grub/i386-pc/ext2.mod": "Type: regular",
		"/dev":                        "Type: directory",
	} {
		out, err := exec.Command("debugfs", "-R", "stat "+name, at).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
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
