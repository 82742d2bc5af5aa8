package machinetest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest/talk"
)

// wire is the network's end of a NIC.
type wire struct {
	t    *testing.T
	conn net.Conn
}

func newWire(t *testing.T, mac string) (*wire, machine.NIC) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[0]), "switch")
	conn, err := net.FileConn(near)
	near.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &wire{t, conn}, machine.NIC{MAC: mac, Conn: os.NewFile(uintptr(fds[1]), "nic")}
}

// next reads a frame.
func (w *wire) next(ctx context.Context) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var length [4]byte
	if _, err := io.ReadFull(w.conn, length[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(w.conn, frame)
	return frame, err
}

// expect waits for the frame with word from mac; a guest may send others.
func (w *wire) expect(ctx context.Context, mac, word string) {
	w.t.Helper()
	for {
		frame, err := w.next(ctx)
		if err != nil {
			w.t.Fatalf("no frame %q: %v", word, err)
		}
		if len(frame) < 14 || binary.BigEndian.Uint16(frame[12:]) != talk.FrameType {
			continue
		}
		if got := net.HardwareAddr(frame[6:12]).String(); got != mac {
			w.t.Errorf("frame from %s, want %s", got, mac)
		}
		if got := strings.TrimRight(string(frame[14:]), "\x00"); got != word {
			w.t.Errorf("frame says %q, want %q", got, word)
		}
		return
	}
}

// expectEnd waits until the machine has closed its end.
func (w *wire) expectEnd(ctx context.Context) {
	w.t.Helper()
	for {
		_, err := w.next(ctx)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			w.t.Errorf("the card's socket does not end: %v", err)
		}
		return
	}
}
