package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noise is n bytes, a multiple of 8, that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// sample is a disk with noise, text, a hole, a lone sector, and a last chunk
// that is not whole.
func sample() disk.Memory {
	d := make(disk.Memory, 5*ChunkSize+3*disk.SectorSize)
	copy(d, noise(1, ChunkSize+5000*8))
	copy(d[2*ChunkSize:], bytes.Repeat([]byte("all work and no play "), 5000))
	copy(d[4*ChunkSize+100*disk.SectorSize:], noise(2, disk.SectorSize))
	copy(d[5*ChunkSize:], noise(3, 3*disk.SectorSize))
	return d
}

func mustImport(t testing.TB, s *Store, src disk.Reader) Digest {
	t.Helper()
	d, _, err := s.Import(context.Background(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readImage(t testing.TB, s *Store, d Digest) []byte {
	t.Helper()
	m, err := s.OpenImage(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b := make([]byte, m.Size())
	if err := disk.ReadFull(m, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// files lists all files below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportReadsBack(t *testing.T) {
	s, d := newStore(t), sample()
	var reports []int64
	digest, stats, err := s.Import(context.Background(), d, func(done, total int64) {
		if total != 5*ChunkSize {
			t.Errorf("total %d, want %d", total, 5*ChunkSize)
		}
		reports = append(reports, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d, readImage(t, s, digest)) {
		t.Error("the image does not read back")
	}
	if stats.Chunks != 5 || stats.Stored != 5 || stats.Read != 5*ChunkSize {
		t.Errorf("stats %+v, want 5 chunks read and stored", stats)
	}
	if diff := cmp.Diff([]int64{0, 1 * ChunkSize, 2 * ChunkSize, 3 * ChunkSize, 4 * ChunkSize, 5 * ChunkSize}, reports); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	info, err := s.Stat(context.Background(), digest)
	if err != nil {
		t.Fatal(err)
	}
	if info.StoredBytes != stats.StoredBytes || info.Size != d.Size() || info.Used != 5*ChunkSize {
		t.Errorf("info %+v does not match %+v", info, stats)
	}
	again, stats, err := s.Import(context.Background(), d, nil)
	if err != nil || again != digest || stats.Stored != 0 {
		t.Errorf("importing again: %s, %+v, %v; want %s without storing", again, stats, err, digest)
	}
	if err := s.Verify(context.Background(), digest, nil); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if left := files(t, filepath.Join(s.dir, tmpDir)); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	if left := files(t, filepath.Join(s.dir, pinsDir)); len(left) > 0 {
		t.Errorf("pins are left: %v", left)
	}
}

// hugeHole is an enormous disk that refuses to be read outside its data.
type hugeHole struct{ t *testing.T }

const hugeAt = 900 << 30

func (h hugeHole) Size() int64 { return 1 << 40 }
func (h hugeHole) ReadAt(p []byte, off int64) (int, error) {
	if off < hugeAt || off+int64(len(p)) > hugeAt+ChunkSize {
		h.t.Errorf("read of a hole at %d", off)
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
func (h hugeHole) Extents(context.Context) ([]disk.Extent, error) {
	return []disk.Extent{{Start: hugeAt + 5, Length: 10}}, nil
}

func TestHolesCostNothing(t *testing.T) {
	s := newStore(t)
	d, stats, err := s.Import(context.Background(), hugeHole{t}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Chunks != 1 {
		t.Errorf("%d chunks, want 1", stats.Chunks)
	}
	m, err := s.OpenImage(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	want := []disk.Extent{{Start: hugeAt, Length: ChunkSize}}
	if got, err := m.Extents(context.Background()); err != nil || !cmp.Equal(want, got) {
		t.Errorf("extents %v, %v; want %v", got, err, want)
	}
}

// TestCaptureIsImport is the reason to trust inheritance: capturing what
// changed gives the very image that reading the whole disk gives.
func TestCaptureIsImport(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	rapid.Check(t, func(t *rapid.T) {
		base := make(disk.Memory, rapid.Int64Range(1, 6*ChunkSize/512).Draw(t, "sectors")*512)
		write := func(d disk.Memory, name string) disk.Extent {
			start := rapid.Int64Range(0, d.Size()-1).Draw(t, name+" at")
			e := disk.Extent{Start: start, Length: rapid.Int64Range(1, d.Size()-start).Draw(t, name+" length")}
			kind := rapid.ByteRange(0, 3).Draw(t, name+" content") // 0 writes zeros
			for i := e.Start; i < e.End(); i++ {
				d[i] = kind
			}
			return e
		}
		for range rapid.IntRange(0, 3).Draw(t, "base writes") {
			write(base, "base")
		}
		baseImage, _, err := s.Import(ctx, base, nil)
		if err != nil {
			t.Fatal(err)
		}
		final := append(append(disk.Memory{}, base...), make([]byte, 512*rapid.IntRange(0, 600).Draw(t, "grown by"))...)
		var changed []disk.Extent
		for range rapid.IntRange(0, 3).Draw(t, "writes") {
			changed = append(changed, write(final, "change"))
		}
		captured, stats, err := s.Capture(ctx, baseImage, changed, final, nil)
		if err != nil {
			t.Fatal(err)
		}
		imported, _, err := s.Import(ctx, final, nil)
		if err != nil {
			t.Fatal(err)
		}
		if captured != imported {
			t.Fatalf("captured %s, imported %s", captured, imported)
		}
		if most := disk.Total(chunkRanges(changed)) * ChunkSize; stats.Read > most {
			t.Fatalf("%d bytes read for changes in %d", stats.Read, most)
		}
	})
}

func TestCaptureRefusesToShrink(t *testing.T) {
	s := newStore(t)
	base := mustImport(t, s, sample())
	_, _, err := s.Capture(context.Background(), base, nil, sample()[:ChunkSize], nil)
	if !arm.IsCode(err, arm.CodeNotSupported) {
		t.Errorf("error %v, want %s", err, arm.CodeNotSupported)
	}
	_, _, err = s.Capture(context.Background(), Digest{1}, nil, sample(), nil)
	if !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("error %v, want %s", err, arm.CodeNotFound)
	}
}

// breaking is a disk whose reading does something at one chunk.
type breaking struct {
	disk.Memory
	at   int64
	once sync.Once
	do   func() error
}

func (b *breaking) ReadAt(p []byte, off int64) (n int, err error) {
	if off == b.at*ChunkSize {
		b.once.Do(func() { err = b.do() })
		if err != nil {
			return 0, err
		}
	}
	return b.Memory.ReadAt(p, off)
}

func TestFailedImportLeavesNothing(t *testing.T) {
	big := disk.Memory(noise(7, 64*ChunkSize))
	t.Run("broken disk", func(t *testing.T) {
		s := newStore(t)
		src := &breaking{Memory: big, at: 40, do: func() error { return errors.New("a bad sector") }}
		if _, _, err := s.Import(context.Background(), src, nil); err == nil {
			t.Fatal("no error")
		}
		if left := files(t, s.dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s := newStore(t)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		src := &breaking{Memory: big, at: 40, do: func() error { cancel(cause); return nil }}
		if _, _, err := s.Import(ctx, src, nil); !errors.Is(err, cause) {
			t.Fatalf("error %v, want %v", err, cause)
		}
		if left := files(t, s.dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("others keep their chunks", func(t *testing.T) {
		s := newStore(t)
		var shared Digest
		src := &breaking{Memory: big, at: 60, do: func() error {
			// By now the failing import has stored chunks that this one finds.
			var err error
			shared, _, err = s.Import(context.Background(), big[:32*ChunkSize], nil)
			return errors.Join(err, errors.New("a bad sector"))
		}}
		if _, _, err := s.Import(context.Background(), src, nil); err == nil {
			t.Fatal("no error")
		}
		if err := s.Verify(context.Background(), shared, nil); err != nil {
			t.Errorf("the other image was damaged: %v", err)
		}
		if got, want := len(files(t, filepath.Join(s.dir, chunksDir))), 32; got != want {
			t.Errorf("%d chunks are left, want the other image's %d", got, want)
		}
	})
}

func TestParallelImportsOfOneDisk(t *testing.T) {
	s, d := newStore(t), disk.Memory(noise(9, 32*ChunkSize))
	var wg sync.WaitGroup
	digests := make([]Digest, 4)
	for i := range digests {
		wg.Go(func() {
			var err error
			if digests[i], _, err = s.Import(context.Background(), d, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, got := range digests {
		if got != digests[0] {
			t.Errorf("%s, want %s", got, digests[0])
		}
	}
	if err := s.Verify(context.Background(), digests[0], nil); err != nil {
		t.Error(err)
	}
}

func TestCopySendsWhatIsMissing(t *testing.T) {
	from, to, ctx := newStore(t), newStore(t), context.Background()
	first := disk.Memory(noise(11, 20*ChunkSize))
	second := append(disk.Memory{}, first...)
	copy(second[3*ChunkSize+100:], "a change")
	a, b := mustImport(t, from, first), mustImport(t, from, second)

	stats, err := from.Copy(ctx, a, to, nil)
	if err != nil || stats.Stored != 20 {
		t.Fatalf("first copy: %+v, %v; want 20 chunks", stats, err)
	}
	missing, bytesMissing, err := from.Missing(ctx, b, to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Digest{DigestOf(second[3*ChunkSize : 4*ChunkSize])}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	stats, err = from.Copy(ctx, b, to, nil)
	if err != nil || stats.Stored != 1 || stats.StoredBytes != bytesMissing {
		t.Errorf("second copy: %+v, %v; want 1 chunk of %d bytes", stats, err, bytesMissing)
	}
	if !bytes.Equal(second, readImage(t, to, b)) {
		t.Error("the copy does not read back")
	}
	if stats, err := from.Copy(ctx, a, from, nil); err != nil || stats.Stored != 0 {
		t.Errorf("copy to itself: %+v, %v", stats, err)
	}
	if err := os.Truncate(from.chunkPath(DigestOf(first[:ChunkSize])), 100); err != nil {
		t.Fatal(err)
	}
	empty := newStore(t)
	if _, err := from.Copy(ctx, a, empty, nil); !arm.IsCode(err, arm.CodeCorrupt) {
		t.Errorf("copy of a damaged image: %v, want %s", err, arm.CodeCorrupt)
	}
	if left := files(t, empty.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
