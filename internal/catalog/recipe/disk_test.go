package recipe

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestPartitionsFitAndDoNotOverlap(t *testing.T) {
	parts := []partition{biosBoot, espPart, rootPart}
	at := int64(mib)
	for _, p := range parts {
		if p.start < at || p.start%mib != 0 || p.size%sectorBytes != 0 {
			t.Errorf("%s starts at %d, want at least %d", p.name, p.start, at)
		}
		at = p.start + p.size
	}
	if at > DiskBytes-34*sectorBytes {
		t.Errorf("the partitions end at %d, over the second partition table", at)
	}
}

func TestIdentifiersAreStable(t *testing.T) {
	a, b := Debian12(), Debian12()
	if a.partitionScript() != b.partitionScript() || a.firstGrub() != b.firstGrub() {
		t.Error("one recipe has two sets of identifiers")
	}
	if len(a.espID()) != 8 || a.espUUID() != a.espID()[:4]+"-"+a.espID()[4:] {
		t.Errorf("%s, %s", a.espID(), a.espUUID())
	}
	if n := strings.Count(a.partitionScript(), "uuid="); n != 3 {
		t.Errorf("%d partitions", n)
	}
}

// images are a boot sector and a boot loader as GRUB's tools make them.
func images(sectors int) (boot, core []byte) {
	boot = bytes.Repeat([]byte{0xb0}, sectorBytes)
	binary.LittleEndian.PutUint16(boot[bootSignature:], 0xaa55)
	core = bytes.Repeat([]byte{0xc0}, sectors*sectorBytes-7)
	binary.LittleEndian.PutUint16(core[blockListLength:], uint16(sectors-1))
	return boot, core
}

func TestPatchBoot(t *testing.T) {
	boot, core := images(3)
	mbr := bytes.Repeat([]byte{0x11}, sectorBytes)
	padded, err := patchBoot(mbr, boot, core, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint64(mbr[bootKernelSector:]); got != 2048 {
		t.Errorf("the boot sector loads sector %d", got)
	}
	if mbr[bootDrive] != 0xff || mbr[bootDriveCheck] != 0x90 || mbr[bootDriveCheck+1] != 0x90 {
		t.Errorf("% x", mbr[bootDrive:bootDriveCheck+2])
	}
	if !bytes.Equal(mbr[bootCodeEnd:bootSignature], bytes.Repeat([]byte{0x11}, bootSignature-bootCodeEnd)) {
		t.Error("the partition table changed")
	}
	if len(padded) != 3*sectorBytes || binary.LittleEndian.Uint64(padded[blockListStart:]) != 2049 {
		t.Errorf("%d bytes, % x", len(padded), padded[blockListStart:sectorBytes])
	}
}

func TestPatchBootRefuses(t *testing.T) {
	boot, core := images(3)
	long := core
	for name, c := range map[string]struct{ boot, core []byte }{
		"short boot code":   {boot[:100], core},
		"no signature":      {make([]byte, sectorBytes), core},
		"one sector":        {boot, core[:sectorBytes]},
		"wrong block list":  {boot, long[:sectorBytes+10]},
		"larger than place": {boot, make([]byte, biosBoot.size+1)},
	} {
		if _, err := patchBoot(make([]byte, sectorBytes), c.boot, c.core, 2048); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestPourKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	disk, from := filepath.Join(dir, "disk"), filepath.Join(dir, "from")
	content := make([]byte, 1<<20+123)
	copy(content[300<<10:], "something")
	copy(content[1<<20:], bytes.Repeat([]byte{7}, 123))
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 4<<20), os.WriteFile(from, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := pour(disk, 1<<20, from); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(make([]byte, 1<<20), content, make([]byte, 2<<20-123)); !bytes.Equal(got, want) {
		t.Error("the disk has another content")
	}
}

func TestWriteTar(t *testing.T) {
	var b bytes.Buffer
	if err := writeTar(&b, []file{{name: "/etc/a", mode: 0o600, text: "x"}, {name: "/etc/b", link: "../c"}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r)
		got = append(got, h.Name+" "+string(text)+h.Linkname)
	}
	if diff := cmp.Diff([]string{"etc/a x", "etc/b ../c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	// mmdebstrap is in /usr/bin, which only PATH leads to.
	_, err := findTools()
	if arm.CodeOf(err) != arm.CodeMissingTool || !strings.Contains(err.Error(), "install the Debian packages mmdebstrap") {
		t.Errorf("%v", err)
	}
}

func TestCommandFailure(t *testing.T) {
	var lines []string
	c := command{path: "/bin/sh", args: []string{"-c", "echo one; printf 'two\\rthree' >&2; exit 3"}, line: func(s string) { lines = append(lines, s) }}
	err := c.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sh: exit status 3: one; two; three") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"one", "two", "three"}, lines); diff != "" {
		t.Error(diff)
	}
	full := command{path: "/bin/sh", args: []string{"-c", "echo write: No space left on device; exit 1"}}.run(t.Context())
	if got := asArm(t.Context(), "writing", full); arm.CodeOf(got) != arm.CodeNoSpace {
		t.Errorf("%v", got)
	}
}
