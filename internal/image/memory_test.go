package image

import (
	"context"
	"encoding/binary"
	"runtime"
	"runtime/metrics"
	"testing"

	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
)

func writeOverlay(t testing.TB, path, backing string) {
	t.Helper()
	if err := qcow2.CreateOverlay(path, 1<<20, qcow2.Backing{Path: backing, Format: "raw"}); err != nil {
		t.Fatal(err)
	}
}

// streamed is a large disk that is made while it is read. Its chunks repeat, so
// that storing it takes little room.
type streamed struct{ size int64 }

const streamedPeriod = 64

func (s streamed) Size() int64 { return s.size }
func (s streamed) ReadAt(p []byte, off int64) (int, error) {
	seed := uint64(off / ChunkSize % streamedPeriod)
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], seed*0x9e3779b97f4a7c15+uint64(i))
	}
	return len(p), nil
}
func (s streamed) Extents(context.Context) ([]disk.Extent, error) {
	return []disk.Extent{{Start: 0, Length: s.size}}, nil
}

// nowhere takes an export's data without keeping it.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// TestMemoryIsBounded streams 1 GiB in and out. The heap must not depend on
// that; what does, the index, takes 32 bytes for every 256 KiB.
func TestMemoryIsBounded(t *testing.T) {
	const most = 64 << 20
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	peak := uint64(0)
	watch := func(done, _ int64) {
		if done%(64<<20) == 0 {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64()+sample[1].Value.Uint64())
		}
	}
	runtime.GC() // of what other tests left
	s, ctx := newStore(t), context.Background()
	d, stats, err := s.Import(ctx, streamed{1 << 30}, watch)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Stored != streamedPeriod || stats.Chunks != 1<<30/ChunkSize {
		t.Errorf("stats %+v", stats)
	}
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.writeChunks(ctx, nowhere{}, watch); err != nil {
		t.Fatal(err)
	}
	if peak == 0 || peak > most {
		t.Errorf("%d MiB of heap at the peak, want at most %d", peak>>20, most>>20)
	}
	t.Logf("%d MiB of heap at the peak", peak>>20)
}
