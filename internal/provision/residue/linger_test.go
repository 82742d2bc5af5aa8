package residue_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"testing"

	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

// What keeps the build user's manager running goes with the user, and would be found
// in an image if it did not; other users' stays.
func TestLingerGoesWithTheUser(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	other := path.Join(path.Dir(residue.Linger), "worker")
	if err := root.MkdirAll(path.Dir(residue.Linger), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{residue.Linger, other} {
		if err := root.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := residue.Find(root.FS(), protocol.BuildUser); err != nil || len(left) != 1 || left[0] != residue.Linger {
		t.Errorf("found %q, %v", left, err)
	}
	residue.Clean(root, protocol.BuildUser)
	if _, err := root.Stat(residue.Linger); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := root.Stat(other); err != nil {
		t.Error(err)
	}
}
