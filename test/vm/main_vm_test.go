//go:build vm

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// binary is the program under test.
var binary string

// maxDataBytes is what the shared data directory may occupy before it is made
// anew.
const maxDataBytes = 12 << 30

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	name := os.Getenv("GOLDSMITH_BIN")
	if name == "" {
		name = filepath.Join("..", "..", "bin", "goldsmith")
	}
	var err error
	if binary, err = filepath.Abs(name); err != nil {
		return 1, err
	}
	if _, err := os.Stat(binary); err != nil {
		return 1, fmt.Errorf("no program to test: run make build, or set GOLDSMITH_BIN: %w", err)
	}
	dir, err := sharedData()
	if err != nil {
		return 1, err
	}
	used, err := occupied(dir)
	if err != nil {
		return 1, err
	}
	if used > maxDataBytes {
		if err := os.RemoveAll(dir); err != nil {
			return 1, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 1, err
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			return 1, err
		}
	}
	return code, nil
}

// sharedData is the data directory that the tests of one user share.
func sharedData() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "goldsmith", "test-data"), nil
}

// occupied is what the files below dir take on the disk, in bytes.
func occupied(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return bytes, err
}
