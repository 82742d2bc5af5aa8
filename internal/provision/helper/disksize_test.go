package helper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWaitSize(t *testing.T) {
	at := filepath.Join(t.TempDir(), "size")
	if err := os.WriteFile(at, []byte("2048\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, 1, 1 << 20} {
		if err := waitSize(t.Context(), at, size); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	stop := errors.New("the request is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	err := waitSize(ctx, at, 1<<20+1)
	if !errors.Is(err, stop) || !strings.Contains(err.Error(), "has 1048576 bytes, not yet the 1048577") {
		t.Errorf("a disk that stays small: %v", err)
	}
	if err := waitSize(t.Context(), at+"x", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such disk: %v", err)
	}
}
