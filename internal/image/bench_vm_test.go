//go:build vm

package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// benchmarkTool is what the export benchmarks are measured against: qemu-img on
// the same disk, its source in the page cache.
func benchmarkTool(b *testing.B, args ...string) {
	dir := b.TempDir()
	in, out := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "out")
	benchRaw(b, in)
	b.SetBytes(benchUsed)
	for b.Loop() {
		cmd := exec.Command("qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), in, out)...)
		if output, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, output)
		}
		b.StopTimer()
		if err := os.Remove(out); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkToolVHD(b *testing.B) {
	benchmarkTool(b, "-O", "vpc", "-o", "subformat=fixed,force_size=on")
}
func BenchmarkToolQCOW2(b *testing.B) { benchmarkTool(b, "-O", "qcow2") }
func BenchmarkToolRaw(b *testing.B)   { benchmarkTool(b, "-O", "raw") }
