package event

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
)

// reader reads the whole entries of a growing log.
type reader struct {
	in       *bufio.Reader
	from     int64    // offset of the first event wanted
	consumed int64    // bytes of whole lines read
	begun    int64    // bytes read of a line whose end is not there yet
	partial  []byte   // those bytes
	kinds    [][]byte // as they are in an entry; nil for all
	skipping bool     // the line is longer than maxEntry and partial was dropped
}

// next is the next wanted event; ok is false when there is none yet. What is not
// an event is skipped: a log survives a damaged line.
func (r *reader) next() (e Event, ok bool, err error) {
	for {
		chunk, err := r.in.ReadSlice('\n')
		if !r.skipping {
			r.partial = append(r.partial, chunk...)
		}
		r.begun += int64(len(chunk))
		if len(r.partial) > maxEntry {
			r.partial, r.skipping = nil, true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return Event{}, false, nil
		case err != nil:
			return Event{}, false, err
		}
		r.consumed, r.begun = r.consumed+r.begun, 0
		line, skip := r.partial, r.skipping
		r.partial, r.skipping = r.partial[:0], false
		if skip {
			continue
		}
		if offset, known := offsetOf(line); known && offset < r.from {
			continue
		}
		if !r.wanted(line) {
			continue
		}
		e = Event{}
		if json.Unmarshal(line, &e) == nil && e.Kind != "" && e.Offset >= r.from {
			return e, true, nil
		}
	}
}

// wanted tells entries of other kinds without decoding them: within a text the
// quotes would be escaped.
func (r *reader) wanted(line []byte) bool {
	return r.kinds == nil || slices.ContainsFunc(r.kinds, func(k []byte) bool { return bytes.Contains(line, k) })
}

// drain yields every event that is there and reports whether nothing more will
// be wanted: the reader stopped, or the run has finished.
func (r *reader) drain(yield func(Event, error) bool) (done bool) {
	for {
		e, ok, err := r.next()
		switch {
		case err != nil:
			yield(Event{}, err)
			return true
		case !ok:
			return false
		case !yield(e, nil) || e.Kind == RunFinished:
			return true
		}
	}
}

// offsetOf reads an entry's offset without decoding the rest of it.
func offsetOf(line []byte) (offset int64, ok bool) {
	digits, ok := bytes.CutPrefix(line, []byte(`{"offset":`))
	if !ok {
		return 0, false
	}
	digits, _, ok = bytes.Cut(digits, []byte(","))
	if !ok {
		return 0, false
	}
	offset, err := strconv.ParseInt(string(digits), 10, 64)
	return offset, err == nil
}
