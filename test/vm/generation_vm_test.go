//go:build vm

package vm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"goldsmith/internal/catalog/recipe"
)

// recipeDisk is the disk that the Debian recipe made for the user of the tests.
func recipeDisk(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path, err := recipe.Debian12().Base(t.Context(), filepath.Join(cache, "goldsmith", "bases"), recipe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGeneration1WithLargerDisk adds a disk as an image for machines with a BIOS
// and builds from it with a larger disk than it has.
func TestGeneration1WithLargerDisk(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	const urn = "VmTest:debian-12:bios:1.0.0"
	h.must(t, "catalog", "add", urn, "--from", recipeDisk(t), "--generation", "1", "--replace")
	t.Cleanup(func() { h.must(t, "catalog", "remove", urn) })
	const gib = 1 << 30
	const diskGB = 6
	p := h.build(t, h.template(t, templateSpec{
		Name: "vm-generation1", DiskGB: diskGB,
		Source: map[string]any{"type": "PlatformImage", "publisher": "VmTest", "offer": "debian-12", "sku": "bios", "version": "latest"},
		Customize: []step{
			shell("size", "df -B1 --output=size / | tail -n1"),
			shell("firmware", "test ! -e /sys/firmware/efi", "echo made | sudo tee /etc/made"),
		},
	}))
	p.ends(t, 0)
	checkGrown(t, p.text(1), diskGB*gib)
	var image struct {
		Generation int
		DiskBytes  int64
	}
	out := h.must(t, "image", "show", "vm-generation1", "-o", "json")
	if err := json.Unmarshal([]byte(out), &image); err != nil {
		t.Fatal(err)
	}
	if image.Generation != 1 || image.DiskBytes != diskGB*gib {
		t.Errorf("the image is %+v, want V1 with %d bytes", image, int64(diskGB*gib))
	}
	r := h.boot(t, "vm-generation1", "test ! -e /sys/firmware/efi && cat /etc/made && df -B1 --output=size / | tail -n1")
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	made, size, _ := strings.Cut(r.stdout, "\n")
	if made != "made" {
		t.Errorf("the customization is %q", made)
	}
	checkGrown(t, size, diskGB*gib)
}

// checkGrown checks that a file system of size bytes, in decimal, fills nearly
// all of a disk.
func checkGrown(t *testing.T, size string, disk int64) {
	t.Helper()
	got, err := strconv.ParseInt(strings.TrimSpace(size), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if got < disk/10*9 || got > disk {
		t.Errorf("the root file system has %d bytes, want nearly %d", got, disk)
	}
}
