package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
)

// What a build is taken to change: as much as the installation of some packages and
// 50 MB of data, all over the disk.
const (
	changedPlaces = 400
	changedPiece  = int64(256) << 10
)

// captures measures what storing the same change costs on a base with 0.8 GiB of
// data that does not pack and on one with 8 GiB, taking turns: what a build does
// not change must cost nothing. It needs no machine.
func captures(ctx context.Context, r *report, work string, rounds int) error {
	type base struct {
		name   string
		disk   *os.File
		digest image.Digest
		size   int64
		times  []float64
	}
	store, err := image.Open(filepath.Join(work, "captures"))
	if err != nil {
		return err
	}
	bases := []*base{{name: "0.8 GiB", size: 820 << 20}, {name: "8 GiB", size: 8 << 30}}
	random := rand.NewChaCha8([32]byte{'c', 'a', 'p'})
	for i, b := range bases {
		if b.disk, err = os.Create(filepath.Join(work, fmt.Sprint("capture", i, ".raw"))); err != nil {
			return err
		}
		defer os.Remove(b.disk.Name())
		defer b.disk.Close()
		if _, err := io.CopyN(b.disk, random, b.size); err != nil {
			return err
		}
		if b.digest, _, err = store.Import(ctx, disk.NewRaw(b.disk, b.size), nil); err != nil {
			return err
		}
	}
	for range rounds {
		for _, b := range bases {
			var changed []disk.Extent
			for i := range int64(changedPlaces) {
				at := i * (b.size / changedPlaces) / changedPiece * changedPiece
				if _, err := io.CopyN(io.NewOffsetWriter(b.disk, at), random, changedPiece); err != nil {
					return err
				}
				changed = append(changed, disk.Extent{Start: at, Length: changedPiece})
			}
			start := time.Now()
			if _, _, err := store.Capture(ctx, b.digest, changed, disk.NewRaw(b.disk, b.size), nil); err != nil {
				return err
			}
			b.times = append(b.times, time.Since(start).Seconds())
		}
	}
	var ratio []float64
	for i := range rounds {
		ratio = append(ratio, bases[1].times[i]/bases[0].times[i])
	}
	section := fmt.Sprintf("B capture of %d MB changed", changedPlaces*changedPiece/1e6)
	for _, b := range bases {
		r.add(section, "base of "+b.name, "s", "", b.times...)
	}
	r.add(section, "8 GiB relative to 0.8 GiB", "x", "to reach: at most 1.3", ratio...)
	return os.RemoveAll(filepath.Join(work, "captures"))
}
