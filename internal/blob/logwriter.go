package blob

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"goldsmith/internal/arm"
)

const (
	logType = "text/plain; charset=utf-8"
	// logCloseTimeout bounds the last publishing of a log.
	logCloseTimeout = 30 * time.Second
	// logRest is how many times longer than a publishing the pause after it is, so
	// that a long log costs a bounded share of the disk's time.
	logRest = 10
)

// LogWriter appends to a blob that can be read while it grows. What is written
// collects in a nameless local file and is published from time to time.
type LogWriter struct {
	store Store
	name  Name
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu    sync.Mutex // guards the spool and dirty
	spool *os.File
	size  int64
	dirty bool

	publishing sync.Mutex // one at a time, in order
}

// NewLogWriter makes an empty log blob and publishes what is written to it about
// every interval, until Close. Cancelling ctx stops the publishing, but not
// Close's.
func NewLogWriter(ctx context.Context, s Store, n Name, interval time.Duration) (*LogWriter, error) {
	spool, err := os.CreateTemp("", "goldsmith-log-*")
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "make a file for the log: %w", err).At(n.Blob)
	}
	// Without a name it goes away with the process, however that ends.
	if err := os.Remove(spool.Name()); err != nil {
		return nil, errors.Join(arm.Errorf(arm.CodeInternal, "make a file for the log: %w", err).At(n.Blob), spool.Close())
	}
	loopCtx, stop := context.WithCancel(ctx)
	w := &LogWriter{store: s, name: n, stop: stop, spool: spool, dirty: true}
	if err := w.Flush(ctx); err != nil {
		stop()
		return nil, errors.Join(err, spool.Close())
	}
	w.done.Go(func() { w.loop(loopCtx, interval) })
	return w, nil
}

func (w *LogWriter) loop(ctx context.Context, interval time.Duration) {
	pause := time.NewTimer(interval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		start := time.Now()
		_ = w.Flush(ctx) // Close publishes all of it again, and reports
		pause.Reset(max(interval, logRest*time.Since(start)))
	}
}

// Write appends p.
func (w *LogWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.spool.WriteAt(p, w.size)
	w.size += int64(n)
	w.dirty = w.dirty || n > 0
	return n, fault("write log", w.name.Blob, err)
}

// Flush publishes what was written so far.
func (w *LogWriter) Flush(ctx context.Context) error {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	w.mu.Lock()
	size, dirty := w.size, w.dirty
	w.dirty = false
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	_, err := w.store.Put(ctx, w.name, io.NewSectionReader(w.spool, 0, size), PutOptions{Properties: Properties{ContentType: logType}})
	if err != nil {
		w.mu.Lock()
		w.dirty = true
		w.mu.Unlock()
	}
	return err
}

// Close publishes the whole log and releases the local file.
func (w *LogWriter) Close() error {
	w.stop()
	w.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), logCloseTimeout)
	defer cancel()
	return errors.Join(w.Flush(ctx), w.spool.Close())
}
