package event

import (
	"bytes"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest Text, in bytes, of an Output event. Longer lines become
// several events.
const MaxLine = 16 << 10

// barInterval is how often a line that a program keeps overwriting with carriage
// returns (a progress bar) is shown.
const barInterval = time.Second

// LineWriter turns the bytes that a step writes into Output events, one per
// line. It is safe for concurrent use.
type LineWriter struct {
	sink     Sink
	template Event
	redactor *Redactor
	now      func() time.Time

	mu      sync.Mutex
	line    []byte
	cr      bool // the last byte was a carriage return
	lastBar time.Time
}

// NewLineWriter makes a writer that emits copies of template (Step, StepName,
// Stream) to sink, with Kind Output and one line as Text. The redactor decides
// where an endless line may be cut; it may be nil.
func NewLineWriter(sink Sink, redactor *Redactor, template Event) *LineWriter {
	template.Kind = Output
	return &LineWriter{sink: sink, template: template, redactor: redactor, now: time.Now}
}

// Write takes the next bytes. It never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		i := bytes.IndexAny(rest, "\r\n")
		piece := rest
		if i >= 0 {
			piece = rest[:i]
		}
		if len(piece) > 0 {
			w.overwrite()
			w.append(piece)
		}
		if i < 0 {
			break
		}
		if rest[i] == '\r' {
			w.cr = true
		} else {
			w.emit(w.line)
			w.line, w.cr = w.line[:0], false
		}
		rest = rest[i+1:]
	}
	return len(p), nil
}

// overwrite handles a carriage return that no newline followed: what the line
// held is gone from the screen.
func (w *LineWriter) overwrite() {
	if !w.cr {
		return
	}
	w.cr = false
	if now := w.now(); len(w.line) > 0 && now.Sub(w.lastBar) >= barInterval {
		w.lastBar = now
		w.emit(w.line)
	}
	w.line = w.line[:0]
}

// append adds a piece of a line and cuts the line where it grows too long.
func (w *LineWriter) append(piece []byte) {
	for len(piece) > 0 {
		// What is held back behind MaxLine shows whether a secret crosses it.
		n := min(len(piece), MaxLine+maxForm-len(w.line))
		w.line = append(w.line, piece[:n]...)
		piece = piece[n:]
		if len(w.line) < MaxLine+maxForm {
			return
		}
		at := runeStart(w.line, w.redactor.cut(w.line, MaxLine))
		w.emit(w.line[:at])
		w.line = append(w.line[:0], w.line[at:]...)
	}
}

// runeStart moves at back to the start of a character.
func runeStart(line []byte, at int) int {
	for back := 0; back < utf8.UTFMax && at-back > 0; back++ {
		if at-back == len(line) || utf8.RuneStart(line[at-back]) {
			return at - back
		}
	}
	return at
}

// Close emits an unfinished last line.
func (w *LineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line) > 0 {
		w.emit(w.line)
	}
	w.line, w.cr = nil, false
	return nil
}

func (w *LineWriter) emit(line []byte) {
	e := w.template
	for {
		at := len(line)
		if at > MaxLine {
			at = runeStart(line, w.redactor.cut(line, MaxLine))
		}
		e.Text = Sanitize(string(line[:at]))
		// A line of nothing but control sequences shows nothing.
		if e.Text != "" || at == 0 {
			w.sink.Emit(e)
		}
		if line = line[at:]; len(line) == 0 {
			return
		}
	}
}
