package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"goldsmith/internal/image"
	"goldsmith/internal/image/format"
)

// The disk that is exported: as large and as full as a small server's.
const (
	exportDisk = int64(8) << 30
	exportUsed = int64(700) << 20
)

// exports compares writing a VHD and a qcow2 with qemu-img writing them from the
// same content as a raw file in the page cache, taking turns.
func exports(ctx context.Context, r *report, work string, rounds int) error {
	raw := filepath.Join(work, "export.raw")
	if err := fill(raw, exportDisk, exportUsed); err != nil {
		return err
	}
	store, err := image.Open(filepath.Join(work, "store"))
	if err != nil {
		return err
	}
	digest, _, _, err := store.ImportFile(ctx, raw, format.Limits{}, nil)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		format format.Format
		args   []string
	}{
		{format.VHD, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"}},
		{format.QCOW2, []string{"-O", "qcow2"}},
	} {
		ours, theirs := filepath.Join(work, "ours."+string(c.format)), filepath.Join(work, "theirs."+string(c.format))
		var mine, tool, ratio, holes []float64
		for round := range rounds + 1 {
			start := time.Now()
			if err := store.Export(ctx, digest, ours, c.format, nil); err != nil {
				return err
			}
			own := time.Since(start).Seconds()
			start = time.Now()
			args := append(append([]string{"convert", "-f", "raw"}, c.args...), raw, theirs)
			if text, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("qemu-img: %w\n%s", err, text)
			}
			other := time.Since(start).Seconds()
			used, err := occupied(ours)
			if err != nil {
				return err
			}
			if err := remove(ours, theirs); err != nil {
				return err
			}
			if round == 0 {
				continue // both have their files in the page cache after it
			}
			mine, tool, ratio, holes = append(mine, own), append(tool, other), append(ratio, other/own), append(holes, used)
		}
		section := "700 MB in 8 GiB as " + string(c.format)
		r.add(section, "goldsmith", "s", "", mine...)
		r.add(section, "qemu-img convert", "s", "from raw in the page cache", tool...)
		r.add(section, "speed relative to qemu-img", "x", "to reach: at least 0.9", ratio...)
		r.add(section, "allocated", "MB", "holes must not be", holes...)
	}
	return remove(raw)
}

func remove(files ...string) error {
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// occupied is what a file takes of its disk, in MB.
func occupied(path string) (float64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, err
	}
	return float64(st.Blocks) * 512 / 1e6, nil
}

// fill writes a sparse disk with used bytes of half compressible data, spread
// over it in pieces.
func fill(path string, size, used int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	const piece = int64(4) << 20
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, piece)
	pieces := used / piece
	for i := range pieces {
		for at := 0; at < len(buf); at += 16 {
			binary.LittleEndian.PutUint64(buf[at:], random.Uint64())
			binary.LittleEndian.PutUint64(buf[at+8:], uint64(i)) // repeats, and so compresses
		}
		if _, err := f.WriteAt(buf, i*(size/pieces)/piece*piece); err != nil {
			return err
		}
	}
	return f.Close()
}
