package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/arm"
)

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"flipped bit": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"cut short": func(path string) error { return os.Truncate(path, 1000) },
		"too long":  func(path string) error { return os.Truncate(path, 1<<20) },
		"missing":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, d, ctx := newStore(t), sample(), context.Background()
			image := mustImport(t, s, d)
			chunk := DigestOf(d[:ChunkSize])
			if err := damage(s.chunkPath(chunk)); err != nil {
				t.Fatal(err)
			}
			err := s.Verify(ctx, image, nil)
			var e *arm.Error
			if !errors.As(err, &e) || e.Code != arm.CodeCorrupt || len(e.Details) != 1 || e.Details[0].Target != s.chunkPath(chunk) {
				t.Fatalf("Verify: %#v, want %s naming %s", err, arm.CodeCorrupt, chunk)
			}
			out := filepath.Join(t.TempDir(), "out.raw")
			if err := s.RenderRaw(ctx, image, out, nil); !arm.IsCode(err, arm.CodeCorrupt) {
				t.Errorf("RenderRaw: %v, want %s", err, arm.CodeCorrupt)
			}
			if left := files(t, filepath.Dir(out)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			// The way out that the error names.
			if again := mustImport(t, s, d); again != image {
				t.Errorf("%s, want %s", again, image)
			}
			if err := s.Verify(ctx, image, nil); err != nil {
				t.Errorf("after importing again: %v", err)
			}
		})
	}
}

func TestDamageOfTheUnreadIsHealedByImport(t *testing.T) {
	// What a power failure leaves is seen without verifying the digest.
	s, d := newStore(t), sample()
	image := mustImport(t, s, d)
	if err := os.Truncate(s.chunkPath(DigestOf(d[:ChunkSize])), 100); err != nil {
		t.Fatal(err)
	}
	mustImport(t, s, d)
	if err := s.Verify(context.Background(), image, nil); err != nil {
		t.Error(err)
	}
}

func TestDamagedIndex(t *testing.T) {
	s := newStore(t)
	image := mustImport(t, s, sample())
	if err := os.Truncate(s.indexPath(image), 50); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenImage(context.Background(), image); !arm.IsCode(err, arm.CodeCorrupt) {
		t.Errorf("error %v, want %s", err, arm.CodeCorrupt)
	}
	if again := mustImport(t, s, sample()); again != image {
		t.Errorf("%s, want %s", again, image)
	}
	if err := s.Verify(context.Background(), image, nil); err != nil {
		t.Error(err)
	}
}
