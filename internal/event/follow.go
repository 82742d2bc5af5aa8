package event

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
)

// Read yields the events that the log at path holds now, from offset from on.
func Read(path string, from int64) iter.Seq2[Event, error] {
	return stored(path, reader{from: from})
}

// Select yields the events of some kinds that the log at path holds now. It is much
// faster than Read for a few of many.
func Select(path string, kinds ...Kind) iter.Seq2[Event, error] {
	var r reader
	for _, k := range kinds {
		r.kinds = append(r.kinds, []byte(`"kind":"`+string(k)+`"`))
	}
	return stored(path, r)
}

// stored yields what r wants of the log at path as it is now.
func stored(path string, r reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		file, err := openForReading(path)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer func() { _ = file.Close() }()
		r := r // each pass begins anew
		r.in = bufio.NewReader(file)
		r.drain(yield)
	}
}

// Follow yields the events of a log that another process writes, those to come
// included, until RunFinished or the end of ctx (whose cause it then yields). A
// writer that was killed leaves its followers waiting until somebody closes the
// run, so callers bound ctx by the run's record.
func Follow(ctx context.Context, path string, from int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		file, err := openForReading(path)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer func() { _ = file.Close() }()
		w, err := watchFile(path)
		if err != nil {
			yield(Event{}, arm.Errorf(arm.CodeInternal, "follow the event log: %w", err).At(path))
			return
		}
		defer func() { _ = w.Close() }()

		r := reader{in: bufio.NewReader(file), from: from}
		for !r.drain(yield) {
			err := w.wait(ctx)
			if err == nil {
				err = stillThere(file)
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

func openForReading(path string) (*os.File, error) {
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, arm.Errorf(arm.CodeNotFound, "there is no event log: %w", err).At(path)
	case err != nil:
		return nil, arm.Errorf(arm.CodeInternal, "open the event log: %w", err).At(path)
	}
	return file, nil
}

// watch is an inotify instance on one file.
type watch struct{ *os.File }

func watchFile(path string) (watch, error) {
	// Non-blocking, so that the runtime waits for it and a deadline interrupts.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return watch{}, os.NewSyscallError("inotify_init1", err)
	}
	w := watch{os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_ATTRIB); err != nil {
		return watch{}, errors.Join(os.NewSyscallError("inotify_add_watch", err), w.Close())
	}
	return w, nil
}

// wait returns when the file has changed since the last wait, or with the cause
// of ctx.
func (w watch) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte
	_, err := w.Read(buf[:])
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "wait for the event log: %w", err)
	}
	return nil
}

// stillThere is CodeNotFound when file has no name any more. An open file's
// removal shows as a change of its attributes.
func stillThere(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return arm.Errorf(arm.CodeInternal, "look at the event log: %w", err).At(file.Name())
	}
	if st.Nlink == 0 {
		return arm.Errorf(arm.CodeNotFound, "the event log was removed while it was followed").At(file.Name())
	}
	return nil
}
