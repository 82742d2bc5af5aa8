package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/image/vhd"
)

var le, be = binary.LittleEndian, binary.BigEndian

func TestOf(t *testing.T) {
	for path, want := range map[string]Format{
		"web.vhd": VHD, "a.b/WEB.VHDX": VHDX, "x.qcow2": QCOW2, "x.vmdk": VMDK, "x.raw": Raw, "disk.img": Raw,
	} {
		if got, err := Of(path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"web", "web.iso", "vhd", ".", "x.qcow"} {
		_, err := Of(path)
		if !arm.IsCode(err, arm.CodeUsage) || !strings.Contains(err.Error(), ".qcow2") {
			t.Errorf("%q: error %v, want %s listing the extensions", path, err, arm.CodeUsage)
		}
	}
}

// vmdk makes a monolithicSparse VMDK of 1 MiB with one grain: header, the
// descriptor in sectors 1 to 20, the directory in 21, the table from 22, the
// grain from 128.
func vmdk(change func(b []byte)) []byte {
	b := make([]byte, 256*512)
	copy(b, vmdkMagic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], 3)
	le.PutUint64(b[12:], 2048)
	le.PutUint64(b[20:], 128)
	le.PutUint64(b[28:], 1)
	le.PutUint64(b[36:], 20)
	le.PutUint32(b[44:], 512)
	le.PutUint64(b[56:], 21)
	copy(b[512:], vmdkText("monolithicSparse", `RW 2048 SPARSE "disk.vmdk"`))
	le.PutUint32(b[21*512:], 22)
	le.PutUint32(b[22*512:], 128)
	if change != nil {
		change(b)
	}
	return b
}

func vmdkText(kind, extents string) string {
	return "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"" + kind + "\"\n\n# Extent description\n" + extents + "\n"
}

// vhdx makes a dynamic VHDX of 8 MiB in blocks of 1 MiB, the first one present.
func vhdx(change func(b []byte)) []byte {
	b := make([]byte, 5<<20)
	copy(b, vhdxMagic)
	copy(b[64<<10:], "head")
	le.PutUint64(b[64<<10+8:], 1)
	r := b[192<<10:]
	copy(r, "regi")
	le.PutUint32(r[8:], 2)
	copy(r[16:], vhdxBAT[:])
	le.PutUint64(r[32:], 3<<20)
	le.PutUint32(r[40:], 1<<20)
	copy(r[48:], vhdxMetadata[:])
	le.PutUint64(r[64:], 2<<20)
	le.PutUint32(r[72:], 1<<20)
	m := b[2<<20:]
	copy(m, "metadata")
	le.PutUint16(m[10:], 3)
	for i, item := range []struct {
		id     guid
		offset uint32
		value  []byte
	}{
		{vhdxFileParameters, 64 << 10, le.AppendUint64(nil, 1<<20)},
		{vhdxDiskSize, 64<<10 + 8, le.AppendUint64(nil, 8<<20)},
		{vhdxSectorSize, 64<<10 + 16, le.AppendUint32(nil, 512)},
	} {
		e := m[32+32*i:]
		copy(e, item.id[:])
		le.PutUint32(e[16:], item.offset)
		le.PutUint32(e[20:], uint32(len(item.value)))
		copy(m[item.offset:], item.value)
	}
	le.PutUint64(b[3<<20:], 4<<20|vhdxPayloadPresent)
	if change != nil {
		change(b)
	}
	for _, s := range [][]byte{b[64<<10 : 68<<10], b[192<<10 : 256<<10]} {
		le.PutUint32(s[4:], 0)
		le.PutUint32(s[4:], crc32.Checksum(s, castagnoli))
	}
	return b
}

// dynamicVHD makes a dynamic VHD of 4 MiB with its first block of 2 MiB.
func dynamicVHD(kind vhd.Type, change func(header []byte)) []byte {
	f := vhd.Footer{Type: kind, Size: 4 << 20, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), DataOffset: 512}.Bytes()
	h := make([]byte, vhd.HeaderSize)
	copy(h, "cxsparse")
	be.PutUint64(h[16:], 1536)
	be.PutUint32(h[28:], 2)
	be.PutUint32(h[32:], 2<<20)
	if change != nil {
		change(h)
	}
	var sum uint32
	for i, c := range h {
		if i < 36 || i >= 40 {
			sum += uint32(c)
		}
	}
	be.PutUint32(h[36:], ^sum)
	b := append(append([]byte{}, f...), h...)
	b = be.AppendUint32(b, 4)
	b = be.AppendUint32(b, math.MaxUint32)
	b = append(b, make([]byte, 2048-len(b)+512+2<<20)...)
	return append(b, f...)
}

func fixedVHD(size int64, content int) []byte {
	f, err := vhd.NewFixed(size, [16]byte{1}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	return append(make([]byte, content), f.Bytes()...)
}

func qcow2File(t testing.TB, size int64, backing *qcow2.Backing) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := qcow2.NewWriter(f, size, nil, backing); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inspect(b []byte) (Info, error) {
	return InspectReader(context.Background(), bytes.NewReader(b), int64(len(b)), Limits{})
}

func TestInspect(t *testing.T) {
	for name, test := range map[string]struct {
		file []byte
		want Info
	}{
		"raw":          {make([]byte, 4096), Info{Format: Raw, Size: 4096, Native: true}},
		"odd raw":      {make([]byte, 1000), Info{Format: Raw, Size: 1024, Native: true}},
		"tiny raw":     {make([]byte, 10), Info{Format: Raw, Size: 512, Native: true}},
		"qcow2":        {qcow2File(t, 1<<30, nil), Info{Format: QCOW2, Size: 1 << 30, Native: true}},
		"fixed VHD":    {fixedVHD(1<<20, 1<<20), Info{Format: VHD, Size: 1 << 20, Native: true, Detail: "fixed"}},
		"dynamic VHD":  {dynamicVHD(vhd.Dynamic, nil), Info{Format: VHD, Size: 4 << 20, Detail: "dynamic"}},
		"VHDX":         {vhdx(nil), Info{Format: VHDX, Size: 8 << 20}},
		"VMDK":         {vmdk(nil), Info{Format: VMDK, Size: 1 << 20, Detail: "monolithicSparse"}},
		"2 TiB, empty": {qcow2File(t, 2<<40, nil), Info{Format: QCOW2, Size: 2 << 40, Native: true}},
	} {
		got, err := inspect(test.file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// hostile are files that no tool must see.
func hostile(t testing.TB) map[string][]byte {
	put32 := func(at int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[at:], v) } }
	put64 := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	text := func(s string) func([]byte) {
		return func(b []byte) { clear(b[512 : 21*512]); copy(b[512:], s) }
	}
	one := `RW 2048 SPARSE "x"`
	return map[string][]byte{
		"empty":       {},
		"gzip":        []byte("\x1f\x8b\x08 and so on"),
		"web page":    []byte("<!DOCTYPE html><title>404</title>"),
		"qcow2 cut":   qcow2File(t, 1<<30, nil)[:100],
		"overlay":     qcow2File(t, 1<<30, &qcow2.Backing{Path: "/etc/shadow", Format: "raw"}),
		"VMDK of /":   []byte(vmdkText("monolithicFlat", `RW 2048 FLAT "/etc/shadow" 0`)),
		"VHD cut":     fixedVHD(2<<20, 1<<20),
		"VHD wrong":   append(make([]byte, 1<<20), bytes.Repeat([]byte("conectix"), 64)...),
		"VHD diff":    dynamicVHD(vhd.Differencing, nil),
		"VHD type":    dynamicVHD(vhd.Fixed, nil),
		"VHD parent":  dynamicVHD(vhd.Dynamic, func(h []byte) { h[600] = 1 }),
		"VHD table":   dynamicVHD(vhd.Dynamic, func(h []byte) { be.PutUint64(h[16:], 1<<40) }),
		"VHD blocks":  dynamicVHD(vhd.Dynamic, func(h []byte) { be.PutUint32(h[28:], 1) }),
		"VHD repeats": dynamicVHD(vhd.Dynamic, func(h []byte) { be.PutUint64(h[16:], 2048) }), // an empty bitmap as table
		"VHD header":  dynamicVHD(vhd.Dynamic, nil)[:600],

		"VMDK no size":        vmdk(put64(12, 0)),
		"VMDK huge":           vmdk(put64(12, math.MaxUint64)),
		"VMDK grain":          vmdk(put64(20, 3)),
		"VMDK tables":         vmdk(put32(44, 1<<20)),
		"VMDK no descriptor":  vmdk(put64(28, 0)),
		"VMDK far descriptor": vmdk(put64(28, 1<<40)),
		"VMDK parent":         vmdk(text(strings.Replace(vmdkText("monolithicSparse", one), "ffffffff", "12345678", 1))),
		"VMDK parent hint":    vmdk(text(vmdkText("monolithicSparse", one) + `PARENTFILENAMEHINT="/etc/shadow"`)),
		"VMDK hidden hint":    vmdk(func(b []byte) { copy(b[15*512:], `parentFileNameHint="/etc/shadow"`) }),
		"VMDK flat":           vmdk(text(vmdkText("monolithicFlat", `RW 2048 FLAT "/etc/shadow" 0`))),
		"VMDK flat extent":    vmdk(text(vmdkText("monolithicSparse", `RW 2048 FLAT "/etc/shadow" 0`))),
		"VMDK two extents":    vmdk(text(vmdkText("monolithicSparse", one+"\n"+one))),
		"VMDK split":          vmdk(text(vmdkText("twoGbMaxExtentSparse", one))),
		"VMDK far directory":  vmdk(put64(56, 1<<40)),
		"VMDK far table":      vmdk(put32(21*512, 1<<30)),
		"VMDK far grain":      vmdk(put32(22*512, 1<<30)),
		"VMDK repeats": vmdk(func(b []byte) {
			for i := range 16 {
				put32(22*512+4*i, 128)(b)
			}
		}),
		"VMDK no footer":    vmdk(put64(56, math.MaxUint64)),
		"VMDK cut":          vmdk(nil)[:400],
		"VMDK huge, tables": vmdk(put64(12, 1<<50)),

		"VHDX head":         vhdx(func(b []byte) { b[64<<10] = 'x' }),
		"VHDX log":          vhdx(func(b []byte) { b[64<<10+48] = 1 }),
		"VHDX regions":      vhdx(func(b []byte) { b[192<<10] = 'x' }),
		"VHDX many regions": vhdx(put32(192<<10+8, 1<<30)),
		"VHDX unknown":      vhdx(func(b []byte) { b[192<<10+16] ^= 1; put32(192<<10+44, 1)(b) }),
		"VHDX no BAT":       vhdx(func(b []byte) { b[192<<10+16] ^= 1 }),
		"VHDX far BAT":      vhdx(put64(192<<10+32, 1<<50)),
		"VHDX metadata":     vhdx(func(b []byte) { b[2<<20] = 'x' }),
		"VHDX parent":       vhdx(put32(2<<20+64<<10+4, 2)),
		"VHDX block":        vhdx(put32(2<<20+64<<10, 3<<20)),
		"VHDX no size":      vhdx(put64(2<<20+64<<10+8, 0)),
		"VHDX huge":         vhdx(put64(2<<20+64<<10+8, math.MaxUint64)),
		"VHDX small BAT":    vhdx(put64(2<<20+64<<10+8, 1<<40)),
		"VHDX sector":       vhdx(put32(2<<20+64<<10+16, 100)),
		"VHDX far item":     vhdx(put32(2<<20+32+16, 1<<30)),
		"VHDX repeats": vhdx(func(b []byte) {
			for i := range 8 {
				put64(3<<20+8*i, 4<<20|vhdxPayloadPresent)(b)
			}
		}),
		"VHDX cut": vhdx(nil)[:100<<10],
	}
}

func TestInspectRefuses(t *testing.T) {
	for name, file := range hostile(t) {
		if got, err := inspect(file); !arm.IsCode(err, arm.CodeMalformedImage) {
			t.Errorf("%s: %+v, error %v; want %s", name, got, err, arm.CodeMalformedImage)
		}
	}
}

func TestInspectLimitsTheSize(t *testing.T) {
	b := qcow2File(t, 2<<40+512, nil)
	if _, err := inspect(b); !arm.IsCode(err, arm.CodeTooLarge) {
		t.Errorf("above the default: %v, want %s", err, arm.CodeTooLarge)
	}
	if _, err := InspectReader(context.Background(), bytes.NewReader(b), int64(len(b)), Limits{MaxSize: 3 << 40}); err != nil {
		t.Errorf("below a raised limit: %v", err)
	}
}

func TestInspectOpensRegularFilesOnly(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]arm.Code{
		fifo: arm.CodeMalformedImage, dir: arm.CodeMalformedImage, filepath.Join(dir, "none"): arm.CodeNotFound,
	} {
		if _, err := Inspect(ctx, path, Limits{}); !arm.IsCode(err, want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	path := filepath.Join(dir, "x.img")
	if err := os.WriteFile(path, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := Inspect(ctx, path, Limits{}); err != nil || info.Format != Raw {
		t.Errorf("%+v, %v", info, err)
	}
}

func FuzzInspect(f *testing.F) {
	for _, b := range hostile(f) {
		if len(b) < 1<<18 {
			f.Add(b)
		}
	}
	f.Add(vmdk(nil))
	f.Add(make([]byte, 600))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := inspect(b)
		if err == nil && (info.Size <= 0 || info.Size > DefaultMaxSize || info.Size%512 != 0) {
			t.Fatalf("accepted as %+v", info)
		}
		if err != nil && !arm.IsCode(err, arm.CodeMalformedImage) && !arm.IsCode(err, arm.CodeTooLarge) {
			t.Fatalf("error without its code: %v", err)
		}
	})
}

// FuzzInspectVHDX fuzzes what a VHDX's checksums would otherwise hide.
func FuzzInspectVHDX(f *testing.F) {
	f.Add(uint16(16), uint64(1), uint16(0), uint64(1), uint32(0), uint64(1))
	f.Fuzz(func(t *testing.T, region uint16, regionValue uint64, item uint16, itemValue uint64, table uint32, entry uint64) {
		b := vhdx(func(b []byte) {
			le.PutUint64(b[192<<10+int(region)%4096:], regionValue)
			le.PutUint64(b[2<<20+int(item):], itemValue)
			le.PutUint64(b[3<<20+int(table)%4096:], entry)
		})
		if info, err := inspect(b); err == nil && info.Size > DefaultMaxSize {
			t.Fatalf("accepted as %+v", info)
		}
	})
}
