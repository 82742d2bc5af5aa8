package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/vhd"
)

// allocated is how many bytes a file takes on the disk.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestFormatsRoundTrip: whatever a format is written as, reading the file gives
// the same image, but for the rounding of a VHD to whole MiB.
func TestFormatsRoundTrip(t *testing.T) {
	ctx, d := context.Background(), sample()
	rounded := append(append(disk.Memory{}, d...), make([]byte, disk.RoundUp(d.Size(), vhd.Alignment)-d.Size())...)
	for f, want := range map[format.Format]disk.Memory{format.Raw: d, format.QCOW2: d, format.VHD: rounded} {
		t.Run(string(f), func(t *testing.T) {
			s, dir := newStore(t), t.TempDir()
			image := mustImport(t, s, d)
			path := filepath.Join(dir, "out."+string(f))
			if err := os.WriteFile(path, []byte("an older file"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Export(ctx, image, path, f, nil); err != nil {
				t.Fatal(err)
			}
			if all := files(t, dir); len(all) != 1 {
				t.Errorf("files in the directory: %v", all)
			}
			if got, most := allocated(t, path), int64(3*ChunkSize); got > most {
				t.Errorf("%d bytes allocated, want at most %d: holes were filled", got, most)
			}
			other := newStore(t)
			got, _, info, err := other.ImportFile(ctx, path, format.Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Format != f || info.Size != want.Size() {
				t.Errorf("inspected as %+v, want %s of %d bytes", info, f, want.Size())
			}
			if !bytes.Equal(want, readImage(t, other, got)) {
				t.Error("the content changed")
			}
			if f != format.VHD && got != image {
				t.Errorf("imported as %s, exported %s", got, image)
			}
		})
	}
}

func TestVHDEndsInItsFooter(t *testing.T) {
	s := newStore(t)
	image := mustImport(t, s, sample())
	path := filepath.Join(t.TempDir(), "a.vhd")
	if err := s.Export(context.Background(), image, path, format.VHD, nil); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := vhd.ParseFooter(first[len(first)-vhd.FooterSize:])
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != vhd.Fixed || f.Size != 2<<20 || int64(len(first)) != f.Size+vhd.FooterSize {
		t.Errorf("footer %+v in a file of %d bytes", f, len(first))
	}
	if err := s.Export(context.Background(), image, path, format.VHD, nil); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(path); err != nil || !bytes.Equal(first, second) {
		t.Errorf("one image gives two files (%v)", err)
	}
}

func TestRenderRawIsSparse(t *testing.T) {
	s := newStore(t)
	d := make(disk.Memory, 64<<20)
	copy(d[20<<20:], noise(4, 8192))
	image := mustImport(t, s, d)
	path := filepath.Join(t.TempDir(), "base.raw")
	if err := s.RenderRaw(context.Background(), image, path, nil); err != nil {
		t.Fatal(err)
	}
	raw, err := disk.OpenRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	extents, err := raw.Extents(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if raw.Size() != d.Size() || disk.Total(extents) > 16<<10 {
		t.Errorf("%d bytes with data in %v, want %d with 8 KiB", raw.Size(), extents, d.Size())
	}
}

func TestFailedExportLeavesNothing(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	image := mustImport(t, s, disk.Memory(noise(6, 64*ChunkSize)))
	for _, f := range []format.Format{format.Raw, format.VHD, format.QCOW2} {
		t.Run("cancelled "+string(f), func(t *testing.T) {
			dir, cause := t.TempDir(), errors.New("enough")
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			err := s.Export(ctx, image, filepath.Join(dir, "x"), f, func(done, total int64) {
				if done > total/2 {
					cancel(cause)
				}
			})
			if !errors.Is(err, cause) {
				t.Errorf("error %v, want %v", err, cause)
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	if err := s.Export(ctx, image, filepath.Join(t.TempDir(), "none", "x"), format.Raw, nil); err == nil {
		t.Error("export into a directory that does not exist succeeded")
	}
	if err := s.Export(ctx, Digest{1}, filepath.Join(t.TempDir(), "x"), format.Raw, nil); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("export of no image: %v, want %s", err, arm.CodeNotFound)
	}
	if err := s.Export(ctx, image, filepath.Join(t.TempDir(), "x"), "vdi", nil); !arm.IsCode(err, arm.CodeUsage) {
		t.Errorf("export as vdi: %v, want %s", err, arm.CodeUsage)
	}
	if left := files(t, filepath.Join(s.dir, pinsDir)); len(left) > 0 {
		t.Errorf("pins are left: %v", left)
	}
}

func TestFileErrorCodes(t *testing.T) {
	for err, want := range map[error]arm.Code{
		unix.ENOSPC: arm.CodeNoSpace,
		&os.PathError{Op: "write", Path: "x", Err: unix.EDQUOT}: arm.CodeNoSpace,
		unix.EIO: arm.CodeInternal,
	} {
		if got := arm.CodeOf(exportError(err, "x")); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for _, err := range []error{context.Canceled, fmt.Errorf("x: %w", context.DeadlineExceeded)} {
		if got := exportError(err, "x"); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestImportFileRefusesBackingFiles(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, noise(1, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	overlay := filepath.Join(dir, "evil.qcow2")
	writeOverlay(t, overlay, secret)
	if _, _, _, err := s.ImportFile(context.Background(), overlay, format.Limits{}, nil); !arm.IsCode(err, arm.CodeMalformedImage) {
		t.Errorf("error %v, want %s", err, arm.CodeMalformedImage)
	}
	if left := files(t, s.dir); len(left) > 0 {
		t.Errorf("left in the store: %v", left)
	}
}
