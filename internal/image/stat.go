package image

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Stat describes image d without reading its content; it looks whether each of its
// chunks is there. The error is CodeNotFound for no such image and CodeCorrupt for a
// missing chunk.
func (s *Store) Stat(ctx context.Context, d Digest) (Info, error) {
	x, err := s.index(d)
	if err != nil {
		return Info{}, err
	}
	info := Info{Digest: d, Size: x.Size, Used: x.Len() * ChunkSize}
	if stat, err := os.Stat(s.indexPath(d)); err == nil {
		info.LastUse = stat.ModTime()
	}
	if info.StoredBytes, err = s.stored(ctx, slices.Collect(maps.Keys(x.unique()))); err != nil {
		return Info{}, err
	}
	return info, nil
}

// stored is how many bytes chunks take, all of which must be there. A base has
// thousands, and every build looks at them.
func (s *Store) stored(ctx context.Context, chunks []Digest) (int64, error) {
	if len(chunks) == 0 {
		return 0, nil
	}
	// Names relative to their directory take the kernel half the time of paths.
	dir, err := os.Open(filepath.Join(s.dir, chunksDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, missing(s.chunkPath(chunks[0]), chunks[0])
	}
	if err != nil {
		return 0, fileError(err, "looking at the chunks of the image store")
	}
	defer dir.Close()
	fd := int(dir.Fd())
	var sum atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for part := range slices.Chunk(chunks, (len(chunks)-1)/s.workers+1) {
		g.Go(func() error {
			var bytes int64
			for _, chunk := range part {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				var stat unix.Stat_t
				name := chunk.String()
				err := unix.Fstatat(fd, name[:2]+"/"+name, &stat, 0)
				if errors.Is(err, fs.ErrNotExist) {
					return missing(s.chunkPath(chunk), chunk)
				}
				if err != nil {
					return fileError(&fs.PathError{Op: "stat", Path: s.chunkPath(chunk), Err: err}, "looking at a chunk of the image store")
				}
				bytes += stat.Size
			}
			sum.Add(bytes)
			return nil
		})
	}
	err = g.Wait()
	return sum.Load(), err
}

// missing is the error for a chunk that is not there.
func missing(path string, chunk Digest) error {
	return corrupt(path, "chunk "+chunk.String()+" is missing", nil)
}

// unique is the set of the index's chunks.
func (x *Index) unique() map[Digest]struct{} {
	set := make(map[Digest]struct{}, x.Len())
	for _, r := range x.Runs {
		for _, d := range r.Chunks {
			set[d] = struct{}{}
		}
	}
	return set
}
