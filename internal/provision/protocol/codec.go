package protocol

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrLine is a line that is not part of the language. Reading goes on after it.
var ErrLine = errors.New("malformed line")

// Reader reads the lines of one direction.
type Reader[T Request | Reply] struct {
	r *bufio.Reader
}

// NewReader reads from r.
func NewReader[T Request | Reply](r io.Reader) *Reader[T] {
	return &Reader[T]{bufio.NewReaderSize(r, 4<<10)}
}

// Read reads one line. An error that wraps ErrLine concerns that line only; any
// other is the stream's. A line without its end, before the end of the stream,
// is io.ErrUnexpectedEOF.
func (r *Reader[T]) Read() (T, error) {
	var v T
	line, err := r.line()
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(line, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: %w", ErrLine, err)
	}
	return v, nil
}

// line reads one non-empty line of at most MaxLine bytes; the rest of a longer
// one is skipped without being kept.
func (r *Reader[T]) line() ([]byte, error) {
	for {
		var line []byte
		long := false
		for {
			part, err := r.r.ReadSlice('\n')
			if long = long || len(line)+len(part) > MaxLine+1; long {
				line = nil
			} else {
				line = append(line, part...)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if errors.Is(err, io.EOF) && (long || len(line) > 0) {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		if long {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrLine, MaxLine)
		}
		if len(line) > 1 {
			return line[:len(line)-1], nil
		}
	}
}

// Encode renders one line with its end.
func Encode[T Request | Reply](v T) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(line) > MaxLine {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", ErrLine, len(line), MaxLine)
	}
	return append(line, '\n'), nil
}
