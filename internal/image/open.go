package image

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/lima-vm/go-qcow2reader/lru"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// cachedChunks is how many chunks an open image keeps for random reading: 4 MiB.
const cachedChunks = 16

// Image is an image of a store, open for reading. While it is open, garbage
// collection leaves it alone.
type Image struct {
	store  *Store
	digest Digest
	index  *Index
	pin    *pin
	cache  *lru.Cache[int64, []byte]
	close  sync.Once
}

var _ disk.Reader = (*Image)(nil)

// OpenImage opens image d for reading; an image the store does not have is an
// arm.Error CodeNotFound. Every chunk is verified when it is read; damage is
// CodeCorrupt.
func (s *Store) OpenImage(ctx context.Context, d Digest) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p, err := s.pin()
	if err != nil {
		return nil, err
	}
	touch(s.indexPath(d)) // if it is not there, reading it says so
	x, err := s.index(d)
	if err != nil {
		p.release()
		return nil, err
	}
	return &Image{store: s, digest: d, index: x, pin: p, cache: lru.New[int64, []byte](cachedChunks)}, nil
}

// Digest is the image's identity.
func (m *Image) Digest() Digest { return m.digest }

// Size is the disk's virtual size in bytes.
func (m *Image) Size() int64 { return m.index.Size }

// Extents are the ranges of the chunks that hold data.
func (m *Image) Extents(context.Context) ([]disk.Extent, error) { return m.index.Extents(), nil }

// Close ends the protection from garbage collection.
func (m *Image) Close() error {
	m.close.Do(m.pin.release)
	return nil
}

// ReadAt implements io.ReaderAt. It suits reading here and there; exports
// stream.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= m.index.Size {
		return 0, io.EOF
	}
	var end error
	if rest := m.index.Size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	for read := 0; read < len(p); {
		at := off + int64(read)
		n, within := at/ChunkSize, at%ChunkSize
		part := p[read:min(len(p), read+int(ChunkSize-within))]
		chunk, err := m.chunk(n)
		if err != nil {
			return read, err
		}
		if chunk == nil {
			clear(part)
		} else {
			copy(part, chunk[within:])
		}
		read += len(part)
	}
	return len(p), end
}

// chunk returns chunk n, nil if it is all zeros. It is not to be changed.
func (m *Image) chunk(n int64) ([]byte, error) {
	d := m.index.Chunk(n)
	if d.IsZero() {
		return nil, nil
	}
	if c, ok := m.cache.Get(n); ok {
		return c, nil
	}
	w := m.store.scratch()
	defer m.store.release(w)
	plain := make([]byte, ChunkSize)
	if _, err := m.store.chunk(d, plain, w); err != nil {
		return nil, err
	}
	m.cache.Add(n, plain)
	return plain, nil
}

// Info describes an image.
type Info struct {
	Digest      Digest    `json:"digest"`
	Size        int64     `json:"size"`        // virtual size in bytes
	Used        int64     `json:"used"`        // bytes of the chunks that hold data
	StoredBytes int64     `json:"storedBytes"` // bytes its chunks take in the store, whoever else has them too
	LastUse     time.Time `json:"lastUse"`     // when it was stored or opened last
}

// Same reports whether length bytes at off of both images are the same chunks; it
// reads nothing. Images that differ there may still be equal in some of the bytes.
func (m *Image) Same(other *Image, off, length int64) bool {
	if length <= 0 {
		return true
	}
	for n := off / ChunkSize; n <= (off+length-1)/ChunkSize; n++ {
		if m.index.Chunk(n) != other.index.Chunk(n) {
			return false
		}
	}
	return true
}

// holds reports whether chunk d is there, in full length.
func (s *Store) holds(d Digest) bool {
	f, err := s.openKept(s.chunkPath(d))
	if err != nil {
		return false
	}
	defer f.Close()
	return intactFile(f)
}

// Complete reports whether every chunk of an image is there, in full length. It
// does not read their content; Verify does.
func (s *Store) Complete(ctx context.Context, d Digest) error {
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		return err
	}
	for chunk := range m.index.unique() {
		if err = context.Cause(ctx); err != nil {
			break
		}
		if !s.holds(chunk) {
			err = arm.Errorf(arm.CodeCorrupt, "image %.12s lacks chunk %.12s, or it is damaged", d, chunk)
			break
		}
	}
	return errors.Join(err, m.Close())
}
