//go:build vm

package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/image/vhd"
)

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// vmSample is sample on whole MiB, so that every format keeps its size.
func vmSample() disk.Memory {
	d := make(disk.Memory, 24<<20)
	copy(d, sample())
	copy(d[20<<20:], noise(8, 3<<20))
	return d
}

// TestToolReadsWhatIsExported: QEMU sees the very content in every format.
func TestToolReadsWhatIsExported(t *testing.T) {
	s, d, dir, ctx := newStore(t), vmSample(), t.TempDir(), context.Background()
	image := mustImport(t, s, d)
	raw := filepath.Join(dir, "want.raw")
	if err := os.WriteFile(raw, d, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []format.Format{format.Raw, format.QCOW2, format.VHD, format.VHDX, format.VMDK} {
		t.Run(string(f), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out."+string(f))
			if err := s.Export(ctx, image, out, f, nil); err != nil {
				t.Fatal(err)
			}
			if all := files(t, filepath.Dir(out)); len(all) != 1 {
				t.Errorf("files in the directory: %v", all)
			}
			tool(t, "qemu-img", "compare", "-f", "raw", "-F", f.Driver(), raw, out)
			if f == format.QCOW2 || f == format.VHDX {
				tool(t, "qemu-img", "check", "-f", f.Driver(), out)
			}
			other := newStore(t)
			got, _, info, err := other.ImportFile(ctx, out, format.Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Format != f || got != image {
				t.Errorf("%s imported as %+v %s, want %s", f, info, got, image)
			}
		})
	}
}

// TestImportWhatToolsMake reads the forms that others write.
func TestImportWhatToolsMake(t *testing.T) {
	s, d, dir, ctx := newStore(t), vmSample(), t.TempDir(), context.Background()
	image := mustImport(t, s, d)
	raw := filepath.Join(dir, "in.raw")
	if err := os.WriteFile(raw, d, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"qcow2 v2":          {"-O", "qcow2", "-o", "compat=0.10"},
		"qcow2 deflate":     {"-c", "-O", "qcow2"},
		"qcow2 zstd":        {"-c", "-O", "qcow2", "-o", "compression_type=zstd"},
		"qcow2 small":       {"-O", "qcow2", "-o", "cluster_size=512"},
		"qcow2 large":       {"-O", "qcow2", "-o", "cluster_size=2M"},
		"qcow2 extended L2": {"-O", "qcow2", "-o", "extended_l2=on"},
		"qcow2 prealloc":    {"-O", "qcow2", "-o", "preallocation=falloc"},
		"VHD fixed":         {"-O", "vpc", "-o", "subformat=fixed,force_size=on"},
		"VHD dynamic":       {"-O", "vpc", "-o", "subformat=dynamic,force_size=on"},
		"VHDX dynamic":      {"-O", "vhdx"},
		"VHDX fixed":        {"-O", "vhdx", "-o", "subformat=fixed"},
		"VMDK sparse":       {"-O", "vmdk"},
		"VMDK stream":       {"-O", "vmdk", "-o", "subformat=streamOptimized"},
	} {
		t.Run(name, func(t *testing.T) {
			in := filepath.Join(dir, "in")
			tool(t, "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, in)...)
			got, _, info, err := newStore(t).ImportFile(ctx, in, format.Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got != image {
				t.Errorf("imported as %s (%+v), want %s", got, info, image)
			}
		})
	}
	for name, args := range map[string][]string{
		"VMDK flat":  {"-O", "vmdk", "-o", "subformat=monolithicFlat"},
		"VMDK split": {"-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"},
	} {
		in := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".vmdk")
		tool(t, "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, in)...)
		if _, _, _, err := s.ImportFile(ctx, in, format.Limits{}, nil); !arm.IsCode(err, arm.CodeMalformedImage) {
			t.Errorf("%s: %v, want %s", name, err, arm.CodeMalformedImage)
		}
	}
}

// TestToolAcceptsOverlays: what CreateOverlay writes is what qemu-img create
// would, and what QEMU then writes to it is what Allocated finds.
func TestToolAcceptsOverlays(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	d := vmSample()
	if err := os.WriteFile(filepath.Join(dir, "base.raw"), d, 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(dir, "1.qcow2"), filepath.Join(dir, "2.qcow2")
	if err := qcow2.CreateOverlay(first, 32<<20, qcow2.Backing{Path: "base.raw", Format: "raw"}); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "check", "-f", "qcow2", first)
	if info := tool(t, "qemu-img", "info", "-f", "qcow2", first); !strings.Contains(info, "backing file: base.raw") || !strings.Contains(info, "backing file format: raw") {
		t.Errorf("qemu-img info:\n%s", info)
	}
	tool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 100k", "-c", "write -z 20M 1M", "-c", "write -P 9 30M 4k", first)
	if err := qcow2.CreateOverlay(second, 40<<20, qcow2.Backing{Path: "1.qcow2", Format: "qcow2"}); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-io", "-d", "unmap", "-f", "qcow2", "-c", "write -P 3 5M 64k", "-c", "discard 21M 1M", second)

	changed := make([]disk.Extent, 0)
	for _, layer := range []string{first, second} {
		a, err := qcow2.Allocated(ctx, layer)
		if err != nil {
			t.Fatal(err)
		}
		changed = append(changed, a...)
	}
	if got := disk.Total(disk.Union(changed)); got < 2<<20 || got > 3<<20 {
		t.Errorf("%d bytes changed in %v", got, changed)
	}
	chain, err := qcow2.OpenChain(ctx, second, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	s := newStore(t)
	base := mustImport(t, s, d)
	captured, stats, err := s.Capture(ctx, base, changed, chain, nil)
	if err != nil {
		t.Fatal(err)
	}
	flat := filepath.Join(dir, "flat.raw")
	tool(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", second, flat)
	want, _, _, err := s.ImportFile(ctx, flat, format.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if captured != want {
		t.Errorf("captured %s, want %s", captured, want)
	}
	if stats.Inherited == 0 || stats.Read > 2<<20 {
		t.Errorf("capture read too much: %+v", stats)
	}
}

// TestFooterIsTheTools compares the footer with the one QEMU writes: only who,
// when and which differ.
func TestFooterIsTheTools(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.vhd")
	tool(t, "qemu-img", "create", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, "100M")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := vhd.ParseFooter(b[len(b)-vhd.FooterSize:])
	if err != nil {
		t.Fatal(err)
	}
	ours, err := vhd.NewFixed(100<<20, theirs.UniqueID, theirs.Created)
	if err != nil {
		t.Fatal(err)
	}
	got, want := ours.Bytes(), b[len(b)-vhd.FooterSize:]
	for _, own := range [][2]int{{28, 36}, {64, 68}} { // creator, checksum
		clear(got[own[0]:own[1]])
		clear(want[own[0]:own[1]])
	}
	if !bytes.Equal(got, want) {
		t.Errorf("footer %x\nwant   %x", got, want)
	}
}

// TestConvertIsCancelled: the child ends with its context, and nothing is left.
func TestConvertIsCancelled(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	image := mustImport(t, s, disk.Memory(noise(1, 256<<20)))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The last report comes when qemu-img is about to start.
	var timer *time.Timer
	err := s.Export(ctx, image, filepath.Join(dir, "x.vmdk"), format.VMDK, func(done, total int64) {
		if done == total {
			timer = time.AfterFunc(300*time.Millisecond, cancel)
		}
	})
	if timer != nil {
		timer.Stop()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFullDisk runs on a file system of 4 MiB, for which it must be root.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	big, ctx := disk.Memory(noise(1, 8<<20)), context.Background()
	full, err := Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := full.Import(ctx, big, nil); !arm.IsCode(err, arm.CodeNoSpace) {
		t.Errorf("Import: %v, want %s", err, arm.CodeNoSpace)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("Import left behind: %v", left)
	}
	s := newStore(t)
	image := mustImport(t, s, big)
	if _, err := s.Copy(ctx, image, full, nil); !arm.IsCode(err, arm.CodeNoSpace) {
		t.Errorf("Copy: %v, want %s", err, arm.CodeNoSpace)
	}
	for _, f := range []format.Format{format.Raw, format.VHD, format.QCOW2, format.VHDX, format.VMDK} {
		if err := s.Export(ctx, image, filepath.Join(dir, "out"), f, nil); !arm.IsCode(err, arm.CodeNoSpace) {
			t.Errorf("Export as %s: %v, want %s", f, err, arm.CodeNoSpace)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("Export as %s left behind: %v", f, left)
		}
	}
}
