package disk

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUnion(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []Extent
		want []Extent
	}{
		{"nothing", nil, []Extent{}},
		{"empty extents vanish", []Extent{{5, 0}}, []Extent{}},
		{"touching neighbours join", []Extent{{4, 4}, {0, 4}}, []Extent{{0, 8}}},
		{"an extent within another vanishes", []Extent{{0, 100}, {10, 5}}, []Extent{{0, 100}}},
		{"overlap", []Extent{{0, 10}, {5, 10}, {20, 1}}, []Extent{{0, 15}, {20, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Union(test.in)); diff != "" {
				t.Errorf("Union (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnionCoversTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Custom(func(t *rapid.T) Extent {
			return Extent{rapid.Int64Range(0, 90).Draw(t, "start"), rapid.Int64Range(0, 10).Draw(t, "length")}
		})).Draw(t, "extents")
		cover := func(extents []Extent) (bytes [100]bool) {
			for _, e := range extents {
				for i := e.Start; i < e.End(); i++ {
					bytes[i] = true
				}
			}
			return bytes
		}
		union := Union(in)
		if cover(in) != cover(union) {
			t.Fatalf("%v became %v", in, union)
		}
		for i := 1; i < len(union); i++ {
			if union[i].Start <= union[i-1].End() {
				t.Fatalf("not separate: %v", union)
			}
		}
	})
}

func TestSubtract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) Extent {
			return Extent{rapid.Int64Range(0, 90).Draw(t, "start"), rapid.Int64Range(0, 10).Draw(t, "length")}
		})
		a, b := Union(rapid.SliceOf(draw).Draw(t, "a")), Union(rapid.SliceOf(draw).Draw(t, "b"))
		in := func(extents []Extent, at int64) bool {
			for _, e := range extents {
				if e.Start <= at && at < e.End() {
					return true
				}
			}
			return false
		}
		rest := Subtract(a, b)
		for at := range int64(101) {
			if got, want := in(rest, at), in(a, at) && !in(b, at); got != want {
				t.Fatalf("%v - %v = %v: wrong at %d", a, b, rest, at)
			}
		}
	})
}

func TestDataRunsRestoreTheBuffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.SliceOfN(rapid.Bool(), 0, 40).Draw(t, "blocks")
		tail := rapid.IntRange(0, BlockSize-1).Draw(t, "tail")
		p := make([]byte, len(blocks)*BlockSize+tail)
		for i, data := range blocks {
			if data {
				p[i*BlockSize+rapid.IntRange(0, BlockSize-1).Draw(t, "at")] = 1
			}
		}
		got, written := make([]byte, len(p)), 0
		if err := DataRuns(p, func(off int, run []byte) error {
			written += len(run)
			copy(got[off:], run)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, got) {
			t.Fatal("the runs do not restore the buffer")
		}
		want := 0
		for _, data := range blocks {
			if data {
				want += BlockSize
			}
		}
		if written != want {
			t.Fatalf("%d bytes written, want %d", written, want)
		}
	})
}

func TestRawReportsHolesAndPadsTheLastSector(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("data"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(4<<20 + 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := OpenRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if got, want := raw.Size(), int64(4<<20+512); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
	extents, err := raw.Extents(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(extents) != 1 || extents[0].Start > 1<<20 || extents[0].End() < 1<<20+4 || extents[0].Length > 64<<10 {
		t.Errorf("extents %v do not frame 4 bytes at 1 MiB", extents)
	}
	buf := bytes.Repeat([]byte{0xff}, 512)
	if err := ReadFull(raw, buf, 4<<20); err != nil || !IsZero(buf) {
		t.Errorf("last sector: error %v, zero %t", err, IsZero(buf))
	}
	if n, err := raw.ReadAt(buf, raw.Size()-10); n != 10 || err != io.EOF {
		t.Errorf("read over the end: %d, %v; want 10, EOF", n, err)
	}
}
