package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/format"
)

// The disk of the benchmarks: 8 GiB with 700 MB of data that compresses to
// about half, in runs of 4 MB with holes between.
const (
	benchSize = 8 << 30
	benchUsed = 700 << 20
	benchRun  = 4 << 20
)

// benchRaw writes the disk to a raw file.
func benchRaw(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(benchSize); err != nil {
		b.Fatal(err)
	}
	runs := int64(benchUsed / benchRun)
	for i := range runs {
		p := noise(uint64(i), benchRun)
		for at := 0; at < len(p); at += 4096 { // every other 2 KiB is text
			for j := 0; j < 2048; {
				j += copy(p[at+j:at+2048], fmt.Sprintf("%d: the quick brown fox %d ", i, at))
			}
		}
		if _, err := f.WriteAt(p, i*(benchSize/runs)/4096*4096); err != nil {
			b.Fatal(err)
		}
	}
}

func benchImage(b *testing.B) (*Store, Digest) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "disk.raw")
	benchRaw(b, path)
	raw, err := disk.OpenRaw(path)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	s := newStore(b)
	return s, mustImport(b, s, raw)
}

func BenchmarkImportRaw(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk.raw")
	benchRaw(b, path)
	raw, err := disk.OpenRaw(path)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	b.SetBytes(benchUsed)
	for b.Loop() {
		mustImport(b, newStore(b), raw)
	}
}

func benchmarkExport(b *testing.B, f format.Format) {
	s, d := benchImage(b)
	out := filepath.Join(b.TempDir(), "out")
	b.SetBytes(benchUsed)
	for b.Loop() {
		if err := s.Export(context.Background(), d, out, f, nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.Remove(out); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkExportRaw(b *testing.B)   { benchmarkExport(b, format.Raw) }
func BenchmarkExportVHD(b *testing.B)   { benchmarkExport(b, format.VHD) }
func BenchmarkExportQCOW2(b *testing.B) { benchmarkExport(b, format.QCOW2) }

func BenchmarkVerify(b *testing.B) {
	s, d := benchImage(b)
	b.SetBytes(benchUsed)
	for b.Loop() {
		if err := s.Verify(context.Background(), d, nil); err != nil {
			b.Fatal(err)
		}
	}
}
