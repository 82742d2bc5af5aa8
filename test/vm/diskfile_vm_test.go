//go:build vm

package vm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"goldsmith/internal/provision"
)

// checkDiskFile checks with qemu-img that a file is a sound disk image of
// format, of the given virtual size, with the content of the raw file.
func checkDiskFile(t *testing.T, path, format, raw string, size int64) {
	t.Helper()
	var info struct {
		Format      string `json:"format"`
		VirtualSize int64  `json:"virtual-size"`
	}
	out := tool(t, "qemu-img", "info", "-f", format, "--output=json", path)
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatalf("qemu-img info %s: %v\n%s", path, err, out)
	}
	if info.Format != format || info.VirtualSize != size {
		t.Errorf("%s is %s of %d bytes, want %s of %d", filepath.Base(path), info.Format, info.VirtualSize, format, size)
	}
	switch format {
	case "qcow2", "vhdx", "vmdk": // what qemu-img can check
		tool(t, "qemu-img", "check", "-q", "-f", format, path)
	}
	if path != raw {
		tool(t, "qemu-img", "compare", "-q", "-f", format, "-F", "raw", path, raw)
	}
}

// allocated is what a file occupies, and its length, in bytes.
func allocated(t *testing.T, path string) (occupied, length int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512, info.Size()
}

// rootPartition copies the partition that holds the root file system, the last
// and largest of the disk, to a file of its own, holes kept.
func rootPartition(t *testing.T, raw string) string {
	t.Helper()
	var table struct {
		PartitionTable struct {
			SectorSize int64
			Partitions []struct{ Start, Size int64 }
		} `json:"partitiontable"`
	}
	out := tool(t, "sfdisk", "--json", raw)
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	var start, size int64
	for _, p := range table.PartitionTable.Partitions {
		if p.Size > size {
			start, size = p.Start, p.Size
		}
	}
	const mib = 1 << 20
	if start *= table.PartitionTable.SectorSize; start == 0 || start%mib != 0 {
		t.Fatalf("the root partition begins at byte %d\n%s", start, out)
	}
	part := filepath.Join(t.TempDir(), "root.ext4")
	tool(t, "qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=1M", "skip="+strconv.FormatInt(start/mib, 10), "if="+raw, "of="+part)
	if err := os.Truncate(part, size*table.PartitionTable.SectorSize); err != nil {
		t.Fatal(err)
	}
	return part
}

// examined are the directories of the root file system in which a build could
// leave something.
var examined = []string{
	"boot", "etc", "home", "root", "tmp", "usr/local", "var/crash", "var/lib/AccountsService", "var/lib/cloud", "var/lib/dbus",
	"var/lib/dhcp", "var/lib/goldsmith-build", "var/lib/NetworkManager", "var/lib/sudo", "var/lib/systemd", "var/lib/waagent",
	"var/log", "var/mail", "var/spool", "var/tmp",
}

// extract copies what is examined of an ext4 file system below a directory.
func extract(t *testing.T, part string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range examined {
		parent := filepath.Join(root, filepath.Dir(name))
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		tool(t, "debugfs", "-R", "rdump /"+name+" "+parent, part) // a name that is not there is no error
	}
	if _, err := os.Stat(filepath.Join(root, "etc/passwd")); err != nil {
		t.Fatalf("the root file system cannot be examined: %v", err)
	}
	return root
}

// checkResidue looks into a finished disk without booting it: the file system is
// complete and nothing of the run is in it. base is the disk it was built from.
func checkResidue(t *testing.T, raw, base, run string) {
	t.Helper()
	part := rootPartition(t, raw)
	if out := tool(t, "e2fsck", "-fn", part); strings.Contains(out, "recover") {
		t.Errorf("the root file system was not unmounted: %s", out)
	}
	root := extract(t, part)
	left, err := provision.Residue(os.DirFS(root), provision.BuildUser)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		t.Errorf("the build left /%s", name)
	}
	if id, err := os.ReadFile(filepath.Join(root, "etc/machine-id")); err != nil || len(id) != 0 {
		t.Errorf("machine-id is %q, %v; want it empty", id, err)
	}
	want, err := os.Readlink(filepath.Join(extract(t, rootPartition(t, base)), "etc/resolv.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(filepath.Join(root, "etc/resolv.conf")); err != nil || got != want {
		t.Errorf("resolv.conf leads to %q, %v; in the base to %q", got, err, want)
	}
	for _, word := range []string{run, "pkrvm", "goldsmith", "/home/" + provision.BuildUser} {
		names, err := searchFiles(root, word)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			t.Errorf("the build left %q in /%s", word, name)
		}
	}
}

// searchFiles lists the files below root whose text contains word.
func searchFiles(root, word string) (found []string, err error) {
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 4<<20 { // kernels and the like
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), word) {
			name, rerr := filepath.Rel(root, path)
			found, err = append(found, name), rerr
		}
		return err
	})
	return found, err
}
