package image

import (
	"os"
	"path/filepath"
	"testing"
)

// A pending file takes a name that is free and one that another file has, and
// leaves nothing beside it.
func TestPendingFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	for _, text := range []string{"first", "second"} {
		p, err := newPending(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := p.commit(true); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file has %q, %v, want %q", got, err, text)
		}
	}
	dropped, err := newPending(path)
	if err != nil {
		t.Fatal(err)
	}
	dropped.discard()
	lost, err := newPending(filepath.Join(dir, "gone", "disk.raw"))
	if err == nil {
		lost.discard()
		t.Error("a file was begun in a directory that is not there")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}
