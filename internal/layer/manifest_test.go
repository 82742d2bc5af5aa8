package layer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/image/disk"
)

func TestChunked(t *testing.T) {
	got := Chunked([]disk.Extent{{Start: 5, Length: 2}, {Start: 0, Length: 1}, {Start: 19, Length: 1}, {Start: 25, Length: 100}, {Start: 40, Length: 0}, {Start: 90, Length: 1}}, 10, 95)
	want := []disk.Extent{{Start: 0, Length: 95}}
	if diff := cmp.Diff(want, Chunked([]disk.Extent{{Start: 0, Length: 95}}, 10, 95)); diff != "" {
		t.Errorf("whole disk: %s", diff)
	}
	want = []disk.Extent{{Start: 0, Length: 95}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("touching chunks merge: %s", diff)
	}
	got = Chunked([]disk.Extent{{Start: 35, Length: 1}, {Start: 5, Length: 2}}, 10, 95)
	if diff := cmp.Diff([]disk.Extent{{Start: 0, Length: 10}, {Start: 30, Length: 10}}, got); diff != "" {
		t.Errorf("apart: %s", diff)
	}
}

// Every byte of the input is covered, nothing overlaps, and all is whole chunks.
func TestChunkedCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const chunk = 8
		size := rapid.Int64Range(1, 500).Draw(t, "size")
		extents := rapid.SliceOf(rapid.Custom(func(t *rapid.T) disk.Extent {
			return disk.Extent{Start: rapid.Int64Range(0, 510).Draw(t, "s"), Length: rapid.Int64Range(0, 60).Draw(t, "n")}
		})).Draw(t, "extents")
		got := Chunked(extents, chunk, size)
		covered := make([]bool, size)
		last := int64(-1)
		for _, e := range got {
			if e.Start <= last || e.Length <= 0 || e.Start%chunk != 0 || ((e.Start+e.Length)%chunk != 0 && e.Start+e.Length != size) {
				t.Fatalf("bad extent %v after %d of disk %d", e, last, size)
			}
			last = e.Start + e.Length
			for i := e.Start; i < last; i++ {
				covered[i] = true
			}
		}
		for _, e := range extents {
			for i := e.Start; i < min(e.Start+e.Length, size); i++ {
				if !covered[i] {
					t.Fatalf("byte %d of %v is not covered by %v", i, e, got)
				}
			}
		}
	})
}
