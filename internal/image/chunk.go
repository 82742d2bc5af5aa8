package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A stored chunk starts with a header that tells a whole file from one cut
// short by a power failure: magic (3 bytes), how the content is packed (1) and
// the number of packed bytes that follow (4, big-endian).
const (
	chunkMagic      = "gsc"
	chunkHeaderSize = 8
	packedPlain     = 'p'
	packedZstd      = 'z'
)

// errDamaged is what is wrong with a stored chunk that is not what it should be.
var errDamaged = errors.New("the file is damaged")

// scratch is the memory one worker needs.
type scratch struct {
	plain  []byte // ChunkSize bytes
	packed []byte // a stored chunk
	zenc   *zstd.Encoder
}

func newScratch() (*scratch, error) {
	zenc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(ChunkSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("preparing compression: %w", err)
	}
	return &scratch{
		plain:  make([]byte, ChunkSize),
		packed: make([]byte, 0, chunkHeaderSize+ChunkSize+ChunkSize/8),
		zenc:   zenc,
	}, nil
}

// pack puts the stored form of plain into w.packed. Content that does not get
// smaller by a sixteenth is kept as it is, which is faster to read.
func (w *scratch) pack(plain []byte) []byte {
	b := append(w.packed[:0], chunkMagic...)
	b = append(b, packedZstd, 0, 0, 0, 0)
	b = w.zenc.EncodeAll(plain, b)
	if len(b)-chunkHeaderSize > len(plain)/16*15 {
		b = append(b[:chunkHeaderSize], plain...)
		b[3] = packedPlain
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-chunkHeaderSize))
	w.packed = b
	return b
}

// unpack returns the content of a stored chunk, in w.plain or in packed itself.
// It does not know the digest; the caller verifies.
func (w *scratch) unpack(dec *zstd.Decoder, packed []byte) ([]byte, error) {
	kind, size, err := parseChunkHeader(packed)
	if err != nil {
		return nil, err
	}
	body := packed[chunkHeaderSize:]
	if size != len(body) {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", errDamaged, len(body), size)
	}
	plain := body
	if kind == packedZstd {
		if plain, err = dec.DecodeAll(body, w.plain[:0]); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	if len(plain) != ChunkSize {
		return nil, fmt.Errorf("%w: it holds %d bytes, not %d", errDamaged, len(plain), ChunkSize)
	}
	return plain, nil
}

func parseChunkHeader(b []byte) (kind byte, size int, err error) {
	if len(b) < chunkHeaderSize || string(b[:3]) != chunkMagic || (b[3] != packedPlain && b[3] != packedZstd) {
		return 0, 0, fmt.Errorf("%w: it does not start like a chunk", errDamaged)
	}
	return b[3], int(binary.BigEndian.Uint32(b[4:])), nil
}

// readPacked reads a whole stored chunk into w.packed.
func (w *scratch) readPacked(f *os.File) ([]byte, error) {
	b := w.packed[:cap(w.packed)]
	n, err := io.ReadFull(f, b)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%w: it is too long", errDamaged)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return b[:n], nil
	}
	return nil, err
}

// newDecoder makes the decoder that all workers of a store share.
func newDecoder(workers int) (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers),
		zstd.WithDecoderMaxMemory(ChunkSize), zstd.WithDecoderMaxWindow(ChunkSize), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("preparing decompression: %w", err)
	}
	return dec, nil
}

// intact reports whether the file at path is a whole stored chunk by its header
// and length; its digest is not verified.
func intact(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
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
