package image

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/xxh3"
)

// A stored chunk starts with a header: magic (3 bytes), how the content is
// packed (1), the number of packed bytes that follow (4, big-endian), and a
// seal (32): the XXH3-128 of the chunk's digest, the eight bytes before and the
// packed bytes, then zeros. The length tells a whole file from one cut short by a
// power failure. The seal is what reading verifies: that a file of our own is the
// one written as this chunk and has not changed since, ten times as fast as
// hashing its content could. Who may write to the store can forge it, as they
// could forge all of the store. Where a chunk comes from another store, or on
// Verify, the content is hashed. Earlier versions sealed with SHA-256; their
// chunks stay readable.
const (
	chunkMagic      = "gsc"
	chunkSealAt     = 8
	chunkHeaderSize = chunkSealAt + sha256.Size
	packedPlain     = 'P'
	packedLZ4       = 'L'
	packedPlainSHA  = 'p' // sealed with SHA-256
	packedLZ4SHA    = 'l'
)

// errDamaged is what is wrong with a stored chunk that is not what it should be.
var errDamaged = errors.New("the file is damaged")

// scratch is the memory one worker needs.
type scratch struct {
	plain  []byte // ChunkSize bytes
	packed []byte // a stored chunk; room for one that is a byte too long
	xxh    *xxh3.Hasher
	lz4    lz4.Compressor
}

func newScratch() *scratch {
	return &scratch{
		plain:  make([]byte, ChunkSize),
		packed: make([]byte, chunkHeaderSize+ChunkSize+1),
		xxh:    xxh3.New(),
	}
}

// pack returns the stored form of plain, which is chunk d, in w.packed. LZ4 is
// taken for its speed: it unpacks four times as fast as zstd, which could not
// keep up with copying a disk, and takes a quarter more room. Content that does
// not get smaller by a sixteenth is kept as it is.
func (w *scratch) pack(d Digest, plain []byte) ([]byte, error) {
	head := w.packed[:chunkHeaderSize]
	copy(head, chunkMagic)
	head[3] = packedLZ4
	n, err := w.lz4.CompressBlock(plain, w.packed[chunkHeaderSize:chunkHeaderSize+len(plain)/16*15])
	if err != nil && !errors.Is(err, lz4.ErrInvalidSourceShortBuffer) {
		return nil, fmt.Errorf("compressing a chunk: %w", err)
	}
	if n == 0 || err != nil {
		head[3] = packedPlain
		n = copy(w.packed[chunkHeaderSize:], plain)
	}
	binary.BigEndian.PutUint32(head[4:], uint32(n))
	packed := w.packed[:chunkHeaderSize+n]
	copy(head[chunkSealAt:], w.seal(d, packed))
	return packed, nil
}

// seal is the seal of a stored chunk.
func (w *scratch) seal(d Digest, packed []byte) []byte {
	var h hash.Hash = w.xxh
	if kind := packed[3]; kind == packedPlainSHA || kind == packedLZ4SHA {
		h = sha256.New()
	}
	h.Reset()
	h.Write(d[:])
	h.Write(packed[:chunkSealAt])
	h.Write(packed[chunkHeaderSize:])
	seal := make([]byte, 0, sha256.Size)
	if h == w.xxh {
		sum := w.xxh.Sum128().Bytes()
		return append(seal, sum[:]...)[:sha256.Size]
	}
	return h.Sum(seal)
}

// unpack puts the content of the stored chunk d into plain, which has
// ChunkSize bytes, after verifying the seal.
func (w *scratch) unpack(d Digest, packed, plain []byte) error {
	kind, size, err := parseChunkHeader(packed)
	if err != nil {
		return err
	}
	body := packed[chunkHeaderSize:]
	if size != len(body) {
		return fmt.Errorf("%w: it has %d bytes, not %d", errDamaged, len(body), size)
	}
	if string(w.seal(d, packed)) != string(packed[chunkSealAt:chunkHeaderSize]) {
		return fmt.Errorf("%w: its seal is broken", errDamaged)
	}
	n := 0
	if kind == packedLZ4 || kind == packedLZ4SHA {
		if n, err = lz4.UncompressBlock(body, plain); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	} else {
		n = copy(plain, body)
	}
	if n != ChunkSize {
		return fmt.Errorf("%w: it holds %d bytes, not %d", errDamaged, n, ChunkSize)
	}
	return nil
}

func parseChunkHeader(b []byte) (kind byte, size int, err error) {
	if len(b) >= chunkHeaderSize && string(b[:3]) == chunkMagic {
		switch b[3] {
		case packedPlain, packedLZ4, packedPlainSHA, packedLZ4SHA:
			return b[3], int(binary.BigEndian.Uint32(b[4:])), nil
		}
	}
	return 0, 0, fmt.Errorf("%w: it does not start like a chunk", errDamaged)
}

// readPacked reads a whole stored chunk into w.packed.
func (w *scratch) readPacked(f *os.File) ([]byte, error) {
	n, err := io.ReadFull(f, w.packed)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%w: it is too long", errDamaged)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return w.packed[:n], nil
	}
	return nil, err
}

// intact reports whether the file at path is a whole stored chunk by its header
// and length; its seal is not verified.
func intact(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return intactFile(f)
}

// intactFile is intact for an open file.
func intactFile(f *os.File) bool {
	var head [chunkHeaderSize]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false
	}
	_, size, err := parseChunkHeader(head[:])
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Size() == int64(chunkHeaderSize+size)
}
