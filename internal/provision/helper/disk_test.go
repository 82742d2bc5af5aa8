package helper

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mountinfo = `21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard,errors=remount-ro
22 21 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=1k
30 21 254:15 / /boot/efi rw,relatime - vfat /dev/vda15 rw,fmask=0077
31 21 254:1 /sub /mnt/a\040b rw - ext4 /dev/vda1 rw
32 21 11:0 / /run/seed ro - iso9660 /dev/vdb ro
33 21 254:3 / /data rw - xfs /dev/vda3 ro
short line
34 21 0:40 / /x rw - tmpfs
`

func TestParseMounts(t *testing.T) {
	all := parseMounts(mountinfo)
	var got []string
	for _, m := range all {
		got = append(got, strings.Join([]string{m.device, m.point, m.kind, m.source}, " "))
	}
	want := []string{
		"254:1 / ext4 /dev/vda1", "0:5 /dev devtmpfs udev", "254:15 /boot/efi vfat /dev/vda15",
		"254:1 /mnt/a b ext4 /dev/vda1", "11:0 /run/seed iso9660 /dev/vdb", "254:3 /data xfs /dev/vda3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var disks []string
	for _, m := range diskMounts(all) {
		disks = append(disks, m.point)
	}
	// Deepest first, each file system once, none that is read-only.
	if diff := cmp.Diff([]string{"/mnt/a b", "/boot/efi"}, disks); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 1 1:1 / \777\0 rw - a \04`)
	f.Fuzz(func(t *testing.T, text string) {
		all := parseMounts(text)
		if len(all) > strings.Count(text, " - ") {
			t.Fatalf("%d mounts in %q", len(all), text)
		}
		if len(diskMounts(all)) > len(all) {
			t.Fatal("more disks than mounts")
		}
	})
}
