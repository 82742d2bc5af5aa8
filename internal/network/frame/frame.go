// Package frame reads and writes Ethernet frames on a stream socket, in the
// format that QEMU's socket and stream network back ends speak: every frame
// follows its length as a big-endian uint32.
package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of one frame in bytes, without the length in front of it.
const (
	// HeaderSize is the size of an untagged Ethernet header, and so of the
	// smallest frame.
	HeaderSize = 14
	// MaxSize is the largest frame: the largest IP packet and its header.
	MaxSize = 65550
	// PrefixSize is the size of the length in front of every frame.
	PrefixSize = 4
)

const readBuffer = 256 << 10 // several hundred frames per system call

// Errors of Reader.Next.
var (
	// ErrRunt is a frame too short for an Ethernet header. The stream is intact
	// and the next frame can be read.
	ErrRunt = errors.New("frame is shorter than an ethernet header")
	// ErrOversize is a length above MaxSize. The stream cannot be trusted after
	// it and must be closed.
	ErrOversize = errors.New("frame length is above the maximum; the stream is not a frame stream")
)

// Reader splits a stream into frames.
type Reader struct {
	buf  *bufio.Reader
	used int // bytes of the frame handed out last, still in buf
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{buf: bufio.NewReaderSize(r, readBuffer)} }

// Next returns the next frame, which is valid until the following call. The
// error is io.EOF at the end of the stream between two frames,
// io.ErrUnexpectedEOF within one, ErrRunt, ErrOversize, or the stream's own.
func (r *Reader) Next() ([]byte, error) {
	if _, err := r.buf.Discard(r.used); err != nil {
		return nil, err
	}
	r.used = 0
	prefix, err := r.buf.Peek(PrefixSize)
	if err != nil {
		return nil, truncated(err, len(prefix))
	}
	length := binary.BigEndian.Uint32(prefix)
	if length > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrOversize, length, MaxSize)
	}
	whole, err := r.buf.Peek(PrefixSize + int(length))
	if err != nil {
		return nil, truncated(err, len(whole))
	}
	r.used = len(whole)
	if length < HeaderSize {
		return nil, ErrRunt
	}
	return whole[PrefixSize:], nil
}

func truncated(err error, have int) error {
	if errors.Is(err, io.EOF) && have > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Append appends frame and its length to dst.
func Append(dst, frame []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(frame)))
	return append(dst, frame...)
}
