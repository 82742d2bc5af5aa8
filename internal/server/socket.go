package server

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
)

// SocketName is the socket in the data directory through which its owner talks
// to the service without signing in.
const SocketName = "goldsmith.sock"

// maxSocketPath is how long the kernel lets a socket's path be, with its end.
const maxSocketPath = 107

// listenSocket binds the socket. What a killed service has left is replaced: the
// caller holds the lock of the data directory.
func listenSocket(ctx context.Context, dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, arm.Errorf(arm.CodeUsage, "replace the socket: %w", err)
	}
	address, release, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", address)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "close the socket to others: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name may be another by then
	return socketListener{l, path}, nil
}

// socketListener removes its socket when it closes.
type socketListener struct {
	net.Listener
	path string
}

func (l socketListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		_ = os.Remove(l.path) // the next start does it otherwise
	}
	return err
}

// DialSocket connects to the service of a data directory. The error is
// CodeNotFound when none is running.
func DialSocket(ctx context.Context, dir string) (net.Conn, error) {
	address, release, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	if err != nil {
		return nil, arm.Errorf(arm.CodeNotFound, "no service is running on %s: %w", dir, err)
	}
	return c, nil
}

// socketAddress is an address of the socket that is short enough: through a
// descriptor of its directory where the path is too long. Call release after
// use.
func socketAddress(dir string) (address string, release func(), err error) {
	path := filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, arm.Errorf(arm.CodeUsage, "open the data directory: %w", err)
	}
	return filepath.Join("/proc/self/fd", itoa(int(d.Fd())), SocketName), func() { _ = d.Close() }, nil
}

type ownerKey struct{}

// asOwner marks the requests of a connection through the socket.
func asOwner(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, ownerKey{}, true)
}

// isOwner reports whether a request came through the socket: its directory lets
// nobody but its owner in.
func isOwner(ctx context.Context) bool { return ctx.Value(ownerKey{}) != nil }

// ownerCaller is who sends requests through the socket.
func ownerCaller(tenant string) armapi.Caller {
	return armapi.Caller{ObjectID: "00000000-0000-0000-0000-000000000000", TenantID: tenant, Name: "owner of the data directory"}
}
