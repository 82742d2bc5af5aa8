package qcow2

import (
	"compress/flate"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader/image"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"
	"github.com/lima-vm/go-qcow2reader/image/raw"
	"github.com/lima-vm/go-qcow2reader/log"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// maxDepth bounds a chain, so that files that name each other end.
const maxDepth = 64

// maxWindow bounds the memory that one compressed cluster can ask for; a
// cluster has at most 2 MiB.
const maxWindow = 8 << 20

// Chain is the content of a qcow2 image over its backing files.
type Chain struct {
	image   image.Image
	extents []disk.Extent
}

var _ disk.Reader = (*Chain)(nil)

// OpenChain opens the qcow2 image at path with all its backing files for
// reading. Every backing file, symbolic links resolved, must lie in one of the
// directories within, and every image must name the format of the next: qcow2
// or raw. With no directory a backing file is refused. A file that breaks a rule
// of the format, or one of these, is an arm.Error CodeMalformedImage.
func OpenChain(ctx context.Context, path string, within ...string) (*Chain, error) {
	prepareReader()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "opening the qcow2 image: %w", err).At(path)
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "opening the qcow2 image: %w", err).At(path)
	}
	// The files are walked before the reader sees them: it follows whatever
	// they name.
	extents, err := walk(ctx, real, "qcow2", within, 0)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(real)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "opening the qcow2 image: %w", err).At(path)
	}
	img, err := openAs(f, "qcow2")
	if err == nil {
		err = img.Readable()
	}
	if err != nil {
		f.Close()
		return nil, arm.Errorf(arm.CodeMalformedImage, "qcow2 image: %w", err).At(path)
	}
	return &Chain{image: img, extents: extents}, nil
}

// walk checks the image at path and those below it and returns where the disk
// can hold data.
func walk(ctx context.Context, path, format string, within []string, depth int) ([]disk.Extent, error) {
	if depth > maxDepth {
		return nil, malformed("more than %d backing files: they may name each other", maxDepth)
	}
	switch format {
	case "raw":
		r, err := disk.OpenRaw(path)
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "%w", err).At(path)
		}
		defer r.Close()
		return r.Extents(ctx)
	case "qcow2":
	case "":
		return nil, arm.Errorf(arm.CodeMalformedImage, "qcow2 image: it does not say the format of its backing file, and guessing it is unsafe; run qemu-img rebase -u with -F").At(path)
	default:
		return nil, arm.Errorf(arm.CodeMalformedImage, "qcow2 image: a backing file of format %q is not allowed", format).At(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "opening a disk layer: %w", err).At(path)
	}
	defer f.Close()
	h, m, err := readFile(ctx, f)
	if err != nil {
		return nil, at(err, path)
	}
	if h.Backing == "" {
		return m.Data, nil
	}
	below, err := resolve(path, h.Backing, within)
	if err != nil {
		return nil, err
	}
	inherited, err := walk(ctx, below, h.BackingFormat, within, depth+1)
	if err != nil {
		return nil, err
	}
	inherited = disk.Subtract(inherited, m.Allocated)
	inherited = disk.Subtract(inherited, []disk.Extent{{Start: h.Size, Length: 1<<62 - h.Size}})
	return disk.Union(append(inherited, m.Data...)), nil
}

// resolve finds the backing file that the image at path names and checks that
// it lies within the allowed directories.
func resolve(path, backing string, within []string) (string, error) {
	if strings.HasPrefix(backing, "json:") || strings.Contains(backing, "\x00") {
		return "", arm.Errorf(arm.CodeMalformedImage, "qcow2 image: the backing file %q is not a plain path", backing).At(path)
	}
	if !filepath.IsAbs(backing) {
		backing = filepath.Join(filepath.Dir(path), backing)
	}
	real, err := filepath.EvalSymlinks(backing)
	if err != nil {
		return "", arm.Errorf(arm.CodeMalformedImage, "qcow2 image: its backing file cannot be found: %w", err).At(path)
	}
	for _, dir := range within {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		if dir, err = filepath.Abs(dir); err != nil {
			continue
		}
		if rel, err := filepath.Rel(dir, real); err == nil && filepath.IsLocal(rel) {
			return real, nil
		}
	}
	return "", arm.Errorf(arm.CodeMalformedImage, "qcow2 image: its backing file %q is outside the directories it may be in; make it self-contained with qemu-img convert -O qcow2", backing).At(path)
}

// Size is the virtual size in bytes.
func (c *Chain) Size() int64 { return disk.RoundUp(c.image.Size(), disk.SectorSize) }

// ReadAt implements io.ReaderAt.
func (c *Chain) ReadAt(p []byte, off int64) (int, error) {
	if rest := c.image.Size() - off; int64(len(p)) > rest && off >= 0 && off < c.Size() {
		// A size of a fraction of a sector: the reader ends there, the disk does not.
		rest = max(rest, 0)
		if rest > 0 {
			if err := disk.ReadFull(c.image, p[:rest], off); err != nil {
				return 0, err
			}
		}
		n := min(int64(len(p)), c.Size()-off)
		clear(p[rest:n])
		if n < int64(len(p)) {
			return int(n), io.EOF
		}
		return int(n), nil
	}
	return c.image.ReadAt(p, off)
}

// Extents are the ranges that any image of the chain holds data for.
func (c *Chain) Extents(context.Context) ([]disk.Extent, error) { return c.extents, nil }

// Close closes all files of the chain.
func (c *Chain) Close() error { return c.image.Close() }

// file is an image file whose missing end reads as zeros, as QEMU has it: the
// last cluster of a growing image need not be written whole.
type file struct{ *os.File }

func (f file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// openAs opens an image file of a stated format; it never guesses.
func openAs(r io.ReaderAt, format image.Type) (image.Image, error) {
	f, ok := r.(*os.File)
	if !ok {
		return nil, image.ErrWrongType
	}
	asRaw, err := raw.Open(f)
	if err != nil || format == "raw" {
		return asRaw, err
	}
	if format != "qcow2" {
		return asRaw, image.ErrWrongType
	}
	img, err := qcow2.Open(file{f}, openAs)
	if err != nil {
		return asRaw, err // what is returned beside an error is closed by the reader
	}
	return img, nil
}

// prepareReader sets up the reader's process-wide hooks once: no writing to the
// log, and decompressors that fill what they are asked for, which it needs to
// decompress a cluster no more than once.
var prepareReader = sync.OnceFunc(func() {
	log.SetWarnFunc(nil)
	qcow2.SetDecompressor(qcow2.CompressionTypeZlib, func(r io.Reader) (io.ReadCloser, error) {
		fr := inflaters.Get().(io.ReadCloser)
		if err := fr.(flate.Resetter).Reset(r, nil); err != nil {
			return nil, err
		}
		return &cluster{Reader: fr, release: func() { inflaters.Put(fr) }}, nil
	})
	qcow2.SetDecompressor(qcow2.CompressionTypeZstd, func(r io.Reader) (io.ReadCloser, error) {
		zr, _ := zstdReaders.Get().(*zstd.Decoder)
		if zr == nil {
			var err error
			if zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
				return nil, err
			}
		}
		if err := zr.Reset(r); err != nil {
			return nil, err
		}
		return &cluster{Reader: zr, release: func() { zstdReaders.Put(zr) }}, nil
	})
})

var (
	inflaters   = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	zstdReaders sync.Pool
)

// cluster reads one decompressed cluster.
type cluster struct {
	io.Reader
	release func()
}

func (c *cluster) Read(p []byte) (int, error) {
	n, err := io.ReadFull(c.Reader, p)
	if n == len(p) {
		err = nil
	}
	return n, err
}

func (c *cluster) Close() error {
	c.release()
	return nil
}
