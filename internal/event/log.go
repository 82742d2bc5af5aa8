package event

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"syscall"
	"time"

	"goldsmith/internal/arm"
)

// maxEntry bounds one line of a log file; a reader skips longer ones.
const maxEntry = 4 << 20

// Log is a run's stream in a file: one JSON object per line, only ever appended
// to. It is a Sink; readers follow the file and never hold up a writer. One
// process writes it at a time (the one that holds the run).
type Log struct {
	run      string
	path     string
	redactor *Redactor
	now      func() time.Time

	mu      sync.Mutex
	file    *os.File
	size    int64 // bytes of whole entries
	next    int64 // offset of the next event
	torn    bool  // behind size there may be part of an entry
	pending coalescer
	err     error         // the first failed write
	grown   chan struct{} // closed and replaced whenever the log grows or closes
	closed  bool
}

// OpenLog opens or creates the log of a run and continues after its last whole
// entry; an entry that a crash tore is removed. The redactor may be nil.
func OpenLog(path, run string, redactor *Redactor) (*Log, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "open the event log: %w", err).At(path)
	}
	l := &Log{run: run, path: path, redactor: redactor, now: time.Now, file: file, grown: make(chan struct{})}
	if err := l.recover(); err != nil {
		return nil, errors.Join(arm.Errorf(arm.CodeInternal, "recover the event log: %w", err).At(path), file.Close())
	}
	return l, nil
}

func (l *Log) recover() error {
	r := reader{in: bufio.NewReader(l.file)}
	for {
		e, ok, err := r.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		l.next = max(l.next, e.Offset+1)
	}
	l.size = r.consumed
	return l.file.Truncate(l.size)
}

// Emit implements Sink. A write that fails is kept for Close to report; the
// build goes on.
func (l *Log) Emit(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	e.Time, e.Run = e.Time.UTC(), l.run
	clean(l.redactor, &e)
	l.write(l.pending.admit(e)...)
	if e.Kind == RunFinished {
		l.keep(l.file.Sync())
	}
}

// clean takes control sequences and secrets out of everything a person reads.
func clean(redactor *Redactor, e *Event) {
	for _, s := range []*string{&e.Text, &e.Target, &e.StepName} {
		*s = redactor.Redact(Sanitize(*s))
	}
	if e.Err != nil {
		f := *e.Err
		for _, s := range []*string{&f.Message, &f.Target, &f.Hint} {
			*s = redactor.Redact(Sanitize(*s))
		}
		e.Err = &f
	}
}

func (l *Log) write(events ...Event) {
	var entries bytes.Buffer
	first := l.next
	for _, e := range events {
		e.Offset = l.next
		line, err := json.Marshal(e)
		if err != nil {
			l.keep(fmt.Errorf("encode event: %w", err))
			continue
		}
		entries.Write(append(line, '\n'))
		l.next++
	}
	if entries.Len() == 0 {
		return
	}
	if l.torn {
		if err := l.file.Truncate(l.size); err != nil {
			l.keep(err)
			l.next = first
			return
		}
		l.torn = false
	}
	// One write, so that a reader or a crash sees whole entries but for the last.
	if _, err := l.file.WriteAt(entries.Bytes(), l.size); err != nil {
		l.keep(err)
		l.torn = true
		l.next = first
		return
	}
	l.size += int64(entries.Len())
	l.wake()
}

func (l *Log) wake() {
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *Log) keep(err error) {
	if err != nil && l.err == nil {
		code := arm.CodeInternal
		if errors.Is(err, syscall.ENOSPC) {
			code = arm.CodeNoSpace
		}
		l.err = arm.Errorf(code, "write the event log: %w", err).At(l.path)
	}
}

// Err is the first error of a write, nil when every event is in the file.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close writes what is held back and closes the file. Followers end after the
// last event. It returns Err; later events are dropped.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.err
	}
	l.write(l.pending.release()...)
	l.closed = true
	l.keep(l.file.Sync())
	l.keep(l.file.Close())
	l.wake()
	return l.err
}

// Follow yields the events from offset from on, those to come included, until
// RunFinished, Close, or the end of ctx (whose cause it then yields).
func (l *Log) Follow(ctx context.Context, from int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		file, err := os.Open(l.path)
		if err != nil {
			yield(Event{}, arm.Errorf(arm.CodeInternal, "follow the event log: %w", err).At(l.path))
			return
		}
		defer func() { _ = file.Close() }()
		l.follow(ctx, file, from, yield)
	}
}

func (l *Log) follow(ctx context.Context, in io.Reader, from int64, yield func(Event, error) bool) {
	r := reader{in: bufio.NewReader(in), from: from}
	for {
		l.mu.Lock()
		grown, closed := l.grown, l.closed
		l.mu.Unlock()
		if done := r.drain(yield); done || closed {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			yield(Event{}, context.Cause(ctx))
			return
		}
	}
}
