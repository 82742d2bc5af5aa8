package structure

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"unicode/utf16"

	"goldsmith/internal/image/disk"
)

var le = binary.LittleEndian

const (
	size    = 8 << 20
	sectors = size / 512
)

var espGUID = []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

type part struct {
	kind        []byte
	name        string
	first, last uint64
}

// standard is an ESP and a root partition.
var standard = []part{{espGUID, "esp", 2048, 4095}, {[]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, "root", 4096, sectors - 40}}

// gptDisk makes a disk with a GPT for a disk of total sectors (fewer than it
// has when it was grown), a FAT ESP and a clean ext4 root.
func gptDisk(parts []part, total uint64) disk.Memory {
	d := make(disk.Memory, size)
	d[0] = 0xfa // boot code
	d[mbrEntries+4] = mbrProtective
	d[510], d[511] = 0x55, 0xaa
	entries := make([]byte, 128*128)
	for i, p := range parts {
		e := entries[i*128:]
		copy(e, p.kind)
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, u := range utf16.Encode([]rune(p.name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	for _, h := range []struct{ at, other, entries uint64 }{{1, total - 1, 2}, {total - 1, 1, total - 33}} {
		b := d[h.at*512:]
		copy(d[h.entries*512:], entries)
		copy(b, gptSignature)
		le.PutUint32(b[8:], 0x10000)
		le.PutUint32(b[12:], gptHeaderSize)
		le.PutUint64(b[24:], h.at)
		le.PutUint64(b[32:], h.other)
		le.PutUint64(b[40:], 34)
		le.PutUint64(b[48:], total-34)
		le.PutUint64(b[72:], h.entries)
		le.PutUint32(b[80:], 128)
		le.PutUint32(b[84:], 128)
		le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
	}
	fat(d[2048*512:])
	ext4(d[4096*512:], 1000)
	return d
}

func fat(b []byte) {
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
}

func ext4(b []byte, blocks uint32) {
	s := b[extSuperblock:]
	le.PutUint32(s[4:], blocks)
	le.PutUint32(s[24:], 2)
	le.PutUint16(s[56:], extMagic)
	le.PutUint16(s[58:], extStateClean)
}

func mbrDisk() disk.Memory {
	d := make(disk.Memory, size)
	d[0] = 0xfa
	for i, p := range []struct {
		kind         byte
		start, count uint32
	}{{0x83, 2048, 2048}, {0x05, 8192, 4096}} {
		e := d[mbrEntries+16*i:]
		e[4] = p.kind
		le.PutUint32(e[8:], p.start)
		le.PutUint32(e[12:], p.count)
	}
	d[510], d[511] = 0x55, 0xaa
	ext4(d[2048*512:], 100)
	logical := d[8192*512:]
	logical[mbrEntries+4] = 0x82
	le.PutUint32(logical[mbrEntries+8:], 64)
	le.PutUint32(logical[mbrEntries+12:], 1024)
	logical[510], logical[511] = 0x55, 0xaa
	copy(d[(8192+64)*512+swapMagicAt:], "SWAPSPACE2")
	return d
}

func TestCheck(t *testing.T) {
	good := func() disk.Memory { return gptDisk(standard, sectors) }
	root := 4096 * 512
	for _, test := range []struct {
		name     string
		firmware Firmware
		disk     func() disk.Memory
		want     []string // what the findings contain, in order
	}{
		{"a good UEFI disk", UEFI, good, nil},
		{"a good BIOS disk with a GPT", BIOS, good, nil},
		{"a good BIOS disk", BIOS, mbrDisk, nil},
		{"an MBR disk for UEFI", UEFI, mbrDisk, []string{"no EFI system partition"}},
		{"an empty disk", UEFI, func() disk.Memory { return make(disk.Memory, size) }, []string{"no partition table"}},
		{"less than a sector", UEFI, func() disk.Memory { return make(disk.Memory, 100) }, []string{"no partition table"}},
		{"no boot code", BIOS, func() disk.Memory { d := good(); d[0] = 0; return d }, []string{"no boot code"}},
		{"grown", UEFI, func() disk.Memory {
			return gptDisk([]part{standard[0], {standard[1].kind, "root", 4096, 8000}}, 10000)
		}, []string{"sgdisk -e", "larger than the partition"}},
		{"no partitions", UEFI, func() disk.Memory { return gptDisk(nil, sectors) }, []string{"empty"}},
		{"outside the disk", UEFI, func() disk.Memory {
			return gptDisk([]part{standard[0], {standard[1].kind, "root", 4096, 1 << 40}}, sectors)
		}, []string{"that the GPT allows", "not within the disk", "no partition has a file system"}},
		{"overlap", UEFI, func() disk.Memory {
			return gptDisk([]part{{espGUID, "esp", 2048, 4096}, standard[1]}, sectors)
		}, []string{"overlap"}},
		{"damaged header", UEFI, func() disk.Memory { d := good(); d[512+50] ^= 1; return d }, []string{"GPT header has a wrong checksum", "backup GPT"}},
		{"damaged entries", UEFI, func() disk.Memory { d := good(); d[1024] ^= 1; return d }, []string{"entries with a wrong checksum", "backup GPT"}},
		{"both GPTs damaged", UEFI, func() disk.Memory { d := good(); d[512] = 0; d[size-512] = 0; return d }, []string{"is missing", "empty"}},
		{"damaged backup", UEFI, func() disk.Memory { d := good(); d[size-512+60] ^= 1; return d }, []string{"backup GPT header has a wrong checksum"}},
		{"cut disk", UEFI, func() disk.Memory { return good()[:size-1<<20] }, []string{"it was cut", "allows partitions", "not within the disk", "no partition has"}},
		{"ESP without FAT", UEFI, func() disk.Memory { d := good(); d[2048*512+510] = 0; return d }, []string{"no FAT file system"}},
		{"no root", UEFI, func() disk.Memory { d := good(); d[root+extSuperblock+56] = 0; return d }, []string{"no partition has a file system"}},
		{"journal", UEFI, func() disk.Memory { d := good(); d[root+extSuperblock+96] = extNeedsRecovery; return d }, []string{"needs recovery"}},
		{"errors", UEFI, func() disk.Memory { d := good(); d[root+extSuperblock+58] = 3; return d }, []string{"having errors"}},
		{"not clean", UEFI, func() disk.Memory { d := good(); d[root+extSuperblock+58] = 0; return d }, []string{"not marked clean"}},
		{"xfs", UEFI, func() disk.Memory {
			d := good()
			clear(d[root : root+4096])
			copy(d[root:], "XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x10\x00")
			return d
		}, []string{"xfs file system on partition 2 is larger"}},
		{"btrfs", UEFI, func() disk.Memory {
			d := good()
			clear(d[root : root+4096])
			copy(d[root+btrfsMagicAt:], "_BHRfS_M")
			return d
		}, nil},
		{"circle of logical partitions", BIOS, func() disk.Memory {
			d := mbrDisk()
			d[8192*512+mbrEntries+4] = 0
			d[8192*512+mbrEntries+16+4] = 5
			return d
		}, []string{"form a circle"}},
		{"broken extended table", BIOS, func() disk.Memory { d := mbrDisk(); d[8192*512+510] = 0; return d }, []string{"extended partition table"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			report, err := Check(context.Background(), test.disk(), test.firmware)
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Findings) != len(test.want) {
				t.Fatalf("findings %q, want %q", report.Findings, test.want)
			}
			for i, f := range report.Findings {
				if !strings.Contains(f.Text, test.want[i]) {
					t.Errorf("finding %q does not contain %q", f.Text, test.want[i])
				}
			}
			if want := len(test.want) == 0; report.OK() != want {
				t.Errorf("OK %t, want %t", report.OK(), want)
			}
		})
	}
}

func TestGrownDiskIsAWarning(t *testing.T) {
	d := gptDisk([]part{standard[0], {standard[1].kind, "root", 4096, 14000}}, 16000)
	report, err := Check(context.Background(), d, UEFI)
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Text, "sgdisk -e") {
		t.Errorf("findings %q, want one warning", report.Findings)
	}
}

func TestCheckListsPartitions(t *testing.T) {
	report, err := Check(context.Background(), gptDisk(standard, sectors), UEFI)
	if err != nil {
		t.Fatal(err)
	}
	if report.Scheme != "gpt" || len(report.Partitions) != 2 {
		t.Fatalf("%+v", report)
	}
	p := report.Partitions[0]
	if p.Name != "esp" || p.Type != typeESP || p.FileSystem != "vfat" || p.Range != (disk.Extent{Start: 1 << 20, Length: 1 << 20}) {
		t.Errorf("%+v", p)
	}
	report, err = Check(context.Background(), mbrDisk(), BIOS)
	if err != nil {
		t.Fatal(err)
	}
	if report.Scheme != "mbr" || len(report.Partitions) != 2 || report.Partitions[1].Number != 5 || report.Partitions[1].FileSystem != "swap" {
		t.Errorf("%+v", report)
	}
}

type unreadable struct{ disk.Memory }

var errUnreadable = errors.New("a bad sector")

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errUnreadable }

func TestCheckReportsReadErrors(t *testing.T) {
	if _, err := Check(context.Background(), unreadable{make(disk.Memory, size)}, UEFI); !errors.Is(err, errUnreadable) {
		t.Errorf("error %v, want %v", err, errUnreadable)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, mbrDisk(), BIOS); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(uint32(512), []byte(gptSignature), uint32(1024), []byte{1}, true)
	f.Fuzz(func(t *testing.T, a uint32, x []byte, b uint32, y []byte, gpt bool) {
		d := mbrDisk()
		if gpt {
			d = gptDisk(standard, sectors)
		}
		copy(d[a%size:], x)
		copy(d[b%size:], y)
		if gpt { // let the fuzzer past the checksums
			h := d[512:1024]
			clear(h[16:20])
			le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:gptHeaderSize]))
		}
		report, err := Check(context.Background(), d, UEFI)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range report.Partitions {
			if p.Range.Start < 0 || p.Range.End() > d.Size() {
				t.Fatalf("partition %+v is outside the disk", p)
			}
		}
	})
}
