package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"goldsmith/internal/event"
)

// bases measures the same change on a base with 0.8 GiB of data that does not pack
// and on one with 8 GiB: what a build reads and stores must not depend on what it
// does not change.
func (b *bench) bases(ctx context.Context) error {
	raw, err := b.baseDisk()
	if err != nil {
		return err
	}
	data := filepath.Join(b.work, "bases") // bases of its own, which go with it
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"0.8 GiB", 800 << 20}, {"8 GiB", 8 << 30}} {
		file := filepath.Join(b.work, "base-"+size.name[:1]+".raw")
		if err := fatten(ctx, raw, file, size.bytes); err != nil {
			return err
		}
		path, err := b.recipe.template("bases")
		if err != nil {
			return err
		}
		// The first build imports and boots the base; the second is measured.
		for i := range 2 {
			run, err := build(ctx, b.binary, data, path, "--no-cache", "--source", file)
			if err != nil {
				return err
			}
			if i == 1 {
				b.report.join("B base of "+size.name, "capture and publish", "s", "to reach: both within 1.3x", run.phases[event.PhaseCapture]+run.phases[event.PhaseDistribute])
			}
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// baseDisk is the one disk that the data directory's machines stand on.
func (b *bench) baseDisk() (string, error) {
	raw, err := filepath.Glob(filepath.Join(b.datadir, "disks", "*.raw"))
	if err != nil || len(raw) != 1 {
		return "", fmt.Errorf("%d base disks in %s (%v)", len(raw), b.datadir, err)
	}
	return raw[0], nil
}

// fatten copies a disk and appends a partition of random data to it.
func fatten(ctx context.Context, from, to string, bytes int64) error {
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the base: %w\n%s", err, out)
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, rand.Reader, bytes); err != nil {
		return err
	}
	if err := f.Truncate(end + bytes + 1<<20); err != nil { // room for the backup of the partition table
		return err
	}
	for _, args := range [][]string{
		{"--relocate", "gpt-bak-std", to},
		{"--append", to},
	} {
		cmd := exec.CommandContext(ctx, "sfdisk", append([]string{"-q"}, args...)...)
		if args[0] == "--append" {
			in, err := cmd.StdinPipe()
			if err != nil {
				return err
			}
			go func() {
				_, _ = fmt.Fprintf(in, "start=%d,size=%d\n", (end+(1<<20)-1)>>20<<11, bytes>>9)
				_ = in.Close()
			}()
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("sfdisk %v: %w\n%s", args, err, out)
		}
	}
	return nil
}
