package qcow2

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// writeImage makes a qcow2 file with the content of d within data.
func writeImage(t testing.TB, path string, d disk.Memory, data []disk.Extent, backing *Backing) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, d.Size(), data, backing)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range data {
		if _, err := w.WriteAt(d[e.Start:e.End()], e.Start); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t testing.TB, r disk.Reader) []byte {
	t.Helper()
	b := make([]byte, r.Size())
	if err := disk.ReadFull(r, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func TestWriterRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		d := make(disk.Memory, rapid.Int64Range(1, 4000).Draw(rt, "sectors")*512)
		var data []disk.Extent
		for range rapid.IntRange(0, 6).Draw(rt, "extents") {
			start := rapid.Int64Range(0, d.Size()-1).Draw(rt, "start")
			e := disk.Extent{Start: start, Length: rapid.Int64Range(1, d.Size()-start).Draw(rt, "length")}
			copy(d[e.Start:e.End()], random(int(e.Length)+8))
			data = append(data, e)
		}
		path := filepath.Join(dir, "disk.qcow2")
		writeImage(t, path, d, data, nil)
		c, err := OpenChain(context.Background(), path)
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		if !bytes.Equal(d, readAll(t, c)) {
			rt.Fatal("the image does not read back")
		}
		extents, err := c.Extents(context.Background())
		if err != nil {
			rt.Fatal(err)
		}
		if rest := disk.Subtract(disk.Union(data), extents); len(rest) > 0 {
			rt.Fatalf("%v hold data but are not in %v", rest, extents)
		}
	})
}

func TestOverlayChain(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	base := disk.Memory(random(300 << 10))
	if err := os.WriteFile(filepath.Join(dir, "base.raw"), base, 0o600); err != nil {
		t.Fatal(err)
	}
	// The middle layer grows the disk and changes its second cluster; the top
	// changes nothing.
	want := append(append(disk.Memory{}, base...), make([]byte, 724<<10)...)
	changed := disk.Extent{Start: 64 << 10, Length: 64 << 10}
	copy(want[changed.Start:changed.End()], bytes.Repeat([]byte("new "), 16<<10))
	middle, top := filepath.Join(dir, "middle.qcow2"), filepath.Join(dir, "top.qcow2")
	writeImage(t, middle, want, []disk.Extent{changed}, &Backing{Path: "base.raw", Format: "raw"})
	if err := CreateOverlay(top, want.Size(), Backing{Path: "middle.qcow2", Format: "qcow2"}); err != nil {
		t.Fatal(err)
	}

	c, err := OpenChain(ctx, top, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !bytes.Equal(want, readAll(t, c)) {
		t.Error("the chain does not read as its layers say")
	}
	extents, err := c.Extents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]disk.Extent{{Start: 0, Length: 300 << 10}}, extents); diff != "" {
		t.Errorf("extents (-want +got):\n%s", diff)
	}
	for path, want := range map[string][]disk.Extent{middle: {changed}, top: nil} {
		got, err := Allocated(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("allocated in %s (-want +got):\n%s", filepath.Base(path), diff)
		}
	}
	if _, err := os.Stat(top); err != nil {
		t.Fatal(err)
	}
	if err := CreateOverlay(top, 1<<20, Backing{Path: "x", Format: "raw"}); err == nil {
		t.Error("an existing file was overwritten")
	}
}

func TestOpenChainKeepsToItsDirectories(t *testing.T) {
	allowed, outside, ctx := t.TempDir(), t.TempDir(), context.Background()
	if err := os.WriteFile(filepath.Join(outside, "secret"), random(1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(allowed, "link")); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(allowed, filepath.Join(outside, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, backing := range map[string]Backing{
		"absolute":   {filepath.Join(outside, "secret"), "raw"},
		"relative":   {rel, "raw"},
		"symlink":    {"link", "raw"},
		"json":       {`json:{"driver":"file","filename":"/etc/passwd"}`, "raw"},
		"protocol":   {"nbd://localhost/x", "raw"},
		"missing":    {"nothing", "raw"},
		"itself":     {"itself.qcow2", "qcow2"},
		"not a file": {".", "raw"},
	} {
		path := filepath.Join(allowed, strings.ReplaceAll(name, " ", "-")+".qcow2")
		if err := CreateOverlay(path, 1<<20, backing); err != nil {
			t.Fatal(err)
		}
		c, err := OpenChain(ctx, path, allowed)
		if err == nil {
			c.Close()
		}
		if want := arm.CodeMalformedImage; name != "not a file" && arm.CodeOf(err) != want || err == nil {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
		if _, err := OpenChain(ctx, path); !arm.IsCode(err, arm.CodeMalformedImage) {
			t.Errorf("%s without any directory: error %v", name, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := []disk.Extent{{Start: 0, Length: clusterSize}}
	for name, try := range map[string]func() (*Writer, error){
		"no size":       func() (*Writer, error) { return NewWriter(f, 0, nil, nil) },
		"half a sector": func() (*Writer, error) { return NewWriter(f, 700, nil, nil) },
		"outside":       func() (*Writer, error) { return NewWriter(f, 512, whole, nil) },
		"part of a cluster": func() (*Writer, error) {
			return NewWriter(f, 1<<20, []disk.Extent{{Start: 0, Length: 512}}, &Backing{"b", "raw"})
		},
		"long backing path":   func() (*Writer, error) { return NewWriter(f, 1<<20, nil, &Backing{strings.Repeat("x", 1024), "raw"}) },
		"odd backing format":  func() (*Writer, error) { return NewWriter(f, 1<<20, nil, &Backing{"b", "vmdk"}) },
		"empty backing path":  func() (*Writer, error) { return NewWriter(f, 1<<20, nil, &Backing{"", "raw"}) },
		"write outside range": func() (*Writer, error) { return writeOutside(f, whole) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func writeOutside(f *os.File, data []disk.Extent) (*Writer, error) {
	w, err := NewWriter(f, 1<<20, data, nil)
	if err != nil {
		return nil, nil // the test wants the error of the write
	}
	_, err = w.WriteAt(make([]byte, 512), clusterSize-256)
	return nil, err
}

// compressedImage is a qcow2 file of one cluster, compressed.
func compressedImage(t testing.TB, bits int, content []byte, useZstd bool) []byte {
	t.Helper()
	var packed bytes.Buffer
	if useZstd {
		enc, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enc.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		enc, err := flate.NewWriter(&packed, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enc.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, size := craftClusters(bits), 1<<bits
	binary.BigEndian.PutUint64(b[3*size:], compressedBit|uint64(packed.Len()/512)<<(70-bits)|uint64(4*size))
	if useZstd {
		binary.BigEndian.PutUint64(b[72:], featureCompression)
		binary.BigEndian.PutUint32(b[100:], 112)
		b[104] = compressionZstd
	}
	b = append(b[:4*size], packed.Bytes()...)
	return append(b, make([]byte, 512)...)
}

func TestCompressedClusters(t *testing.T) {
	content := bytes.Repeat([]byte("a line of text that repeats itself, "), clusterSize)[:clusterSize]
	copy(content[5000:], random(20000))
	for _, useZstd := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "c.qcow2")
		if err := os.WriteFile(path, compressedImage(t, 16, content, useZstd), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := OpenChain(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got := make([]byte, 2*clusterSize)
		if err := disk.ReadFull(c, got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, got[:clusterSize]) || !disk.IsZero(got[clusterSize:]) {
			t.Errorf("zstd %t: the cluster does not read back", useZstd)
		}
		part := make([]byte, 1000)
		if err := disk.ReadFull(c, part, 12345); err != nil || !bytes.Equal(part, content[12345:13345]) {
			t.Errorf("zstd %t: a part of the cluster does not read back: %v", useZstd, err)
		}
	}
}
