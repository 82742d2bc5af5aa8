package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/provision/protocol"
)

// portRetry is how long to wait for a port that udev has not made yet, or whose
// other end is not there: neither has a signal that every kernel gives.
const portRetry = 50 * time.Millisecond

// Port is the guest's end of the virtio-serial port. Where nobody is at the other
// end, reading waits: a builder comes and goes with every save and restore.
type Port struct {
	ctx  context.Context
	file *os.File
	stop func() bool
}

// OpenPort waits for the port and opens it. Reads end when ctx does.
func OpenPort(ctx context.Context) (*Port, error) {
	for {
		file, err := openPort()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
			return &Port{ctx, file, stop}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// openPort finds the port by the kernel's name for it, as udev's link may come
// later or not at all.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(text)) == protocol.Port {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(name))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio-serial port %s: %w", protocol.Port, fs.ErrNotExist)
}

// Read waits for the builder.
func (p *Port) Read(b []byte) (int, error) {
	for {
		n, err := p.file.Read(b)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := pause(p.ctx); err != nil {
			return 0, err
		}
	}
}

// Write writes a whole line.
func (p *Port) Write(b []byte) (int, error) { return p.file.Write(b) }

// Close closes the port.
func (p *Port) Close() error {
	p.stop()
	return p.file.Close()
}

// pause waits for portRetry.
func pause(ctx context.Context) error {
	t := time.NewTimer(portRetry)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
