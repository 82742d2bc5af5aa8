package image

import (
	"context"
	"path/filepath"

	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/qcow2"
)

// ImportFile stores the disk in a file of unknown origin, in whatever format it
// turns out to be. The file is inspected first (format.Inspect) and refused if
// it must not be opened. raw, qcow2 and fixed VHD files are read here; the
// others are converted by qemu-img, under limits, to a sparse file without a
// name beside the store. Progress starts when the reading does.
func (s *Store) ImportFile(ctx context.Context, path string, limits format.Limits, progress Progress) (Digest, Stats, format.Info, error) {
	f, info, err := format.Open(ctx, path, limits)
	if err != nil {
		return Digest{}, Stats{}, format.Info{}, err
	}
	defer f.Close()
	var src disk.Reader
	switch {
	case info.Native && info.Format == format.QCOW2:
		chain, err := qcow2.OpenChain(ctx, path) // without any directory: no backing file
		if err != nil {
			return Digest{}, Stats{}, info, err
		}
		defer chain.Close()
		src = chain
	case info.Native && info.Format == format.VHD:
		src = disk.NewRaw(f, info.Size)
	case info.Native:
		stat, err := f.Stat()
		if err != nil {
			return Digest{}, Stats{}, info, fileError(err, "looking at %s", path)
		}
		src = disk.NewRaw(f, stat.Size())
	default:
		between, err := newTemporary(filepath.Join(s.dir, tmpDir))
		if err != nil {
			return Digest{}, Stats{}, info, fileError(err, "making room to convert %s", path)
		}
		defer between.Close()
		err = convert(ctx, conversion{
			in: f, inDriver: info.Format.Driver(), out: between, outDriver: "raw", maxOutput: info.Size,
		})
		if err != nil {
			return Digest{}, Stats{}, info, err
		}
		src = disk.NewRaw(between, info.Size)
	}
	d, stats, err := s.Import(ctx, src, progress)
	return d, stats, info, err
}
