package image

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// age makes everything in the store a day old.
func age(t testing.TB, s *Store) {
	t.Helper()
	day := time.Now().Add(-24 * time.Hour)
	for _, path := range files(t, s.dir) {
		if err := os.Chtimes(path, day, day); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGC(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	shared, kept, dropped := noise(1, 4*ChunkSize), noise(2, 2*ChunkSize), noise(3, 3*ChunkSize)
	live := mustImport(t, s, disk.Memory(append(append([]byte{}, shared...), kept...)))
	dead := mustImport(t, s, disk.Memory(append(append([]byte{}, shared...), dropped...)))

	got, err := s.GC(ctx, []Digest{live}, time.Hour)
	if err != nil || got.Images != 0 || got.Chunks != 0 {
		t.Fatalf("within the grace period: %+v, %v", got, err)
	}
	age(t, s)
	got, err = s.GC(ctx, []Digest{live}, time.Hour)
	if err != nil || got.Images != 1 || got.Chunks != 3 || got.Bytes < 3*ChunkSize {
		t.Fatalf("%+v, %v; want 1 image and 3 chunks gone", got, err)
	}
	if err := s.Verify(ctx, live, nil); err != nil {
		t.Errorf("the live image: %v", err)
	}
	if _, err := s.OpenImage(ctx, dead); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("the dead image: %v, want %s", err, arm.CodeNotFound)
	}
	if got, err := s.GC(ctx, []Digest{live, dead}, 0); err != nil || got != (Collected{}) {
		t.Errorf("again, with an image named that is gone: %+v, %v", got, err)
	}
}

func TestGCSparesOpenImages(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	d := mustImport(t, s, sample())
	age(t, s)
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.GC(ctx, nil, 0); err != nil || got.Images+got.Chunks != 0 {
		t.Errorf("while open: %+v, %v", got, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	age(t, s)
	if got, err := s.GC(ctx, nil, 0); err != nil || got.Images != 1 || got.Chunks != 5 {
		t.Errorf("after closing: %+v, %v; want all gone", got, err)
	}
}

func TestGCRemovesWhatTheKilledLeft(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	if err := os.WriteFile(filepath.Join(s.dir, tmpDir, "new-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, pinsDir, "orphan"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, s)
	if _, err := s.GC(ctx, nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, left := range files(t, s.dir) {
		if filepath.Base(left) != "gc.lock" {
			t.Errorf("left: %s", left)
		}
	}
}

func TestGCRecoversFromItsOwnDeath(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	d := mustImport(t, s, sample())
	for _, path := range append(files(t, filepath.Join(s.dir, chunksDir)), s.indexPath(d)) {
		if err := os.Rename(path, s.trashPath(path)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(ctx, []Digest{d}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, d, nil); err != nil {
		t.Errorf("what was in the trash is lost: %v", err)
	}
}

func TestOneGCAtATime(t *testing.T) {
	s := newStore(t)
	lock := flock.New(filepath.Join(s.dir, "gc.lock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer lock.Close()
	if _, err := s.GC(context.Background(), nil, 0); !arm.IsCode(err, arm.CodeConflict) {
		t.Errorf("error %v, want %s", err, arm.CodeConflict)
	}
}

func TestGCKeepsOffWhenAnIndexIsDamaged(t *testing.T) {
	s, ctx := newStore(t), context.Background()
	d := mustImport(t, s, sample())
	age(t, s)
	if err := os.Truncate(s.indexPath(d), 60); err != nil {
		t.Fatal(err)
	}
	before := len(files(t, filepath.Join(s.dir, chunksDir)))
	if _, err := s.GC(ctx, []Digest{d}, 0); !arm.IsCode(err, arm.CodeCorrupt) {
		t.Errorf("error %v, want %s", err, arm.CodeCorrupt)
	}
	if after := len(files(t, filepath.Join(s.dir, chunksDir))); after != before {
		t.Errorf("%d chunks of %d are left", after, before)
	}
}

// TestGCBesideWriters lets collections run while images are stored that find
// the chunks of a dead, old image: the very chunks that are being removed.
func TestGCBesideWriters(t *testing.T) {
	s := newStore(t)
	collector, err := Open(s.dir) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	content := disk.Memory(noise(5, 48*ChunkSize))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := collector.GC(context.Background(), nil, 10*time.Minute); err != nil {
				t.Errorf("GC: %v", err)
				return
			}
		}
	})
	for round := range 25 {
		changed := append(disk.Memory{}, content...)
		changed[round] ^= 1
		d := mustImport(t, s, changed)
		if err := s.Verify(context.Background(), d, nil); err != nil {
			t.Errorf("round %d: %v", round, err)
			break
		}
		// From here on the image is dead, and old all at once.
		day := time.Now().Add(-24 * time.Hour)
		for _, path := range append(files(t, filepath.Join(s.dir, chunksDir)), files(t, filepath.Join(s.dir, indexesDir))...) {
			_ = os.Chtimes(path, day, day) // may be gone by now
		}
	}
	cancel()
	wg.Wait()
}
