package buildtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/network/networktest"
	"goldsmith/internal/proxyvm"
	"goldsmith/internal/proxyvm/appliance"
	"goldsmith/internal/proxyvm/order"
)

// writeProxyFiles stands for the kernel and the file system of a proxy VM.
func writeProxyFiles(_ context.Context, dir string) (proxyvm.Files, error) {
	f := proxyvm.Files{Kernel: filepath.Join(dir, "..", "kernel"), Initrd: filepath.Join(dir, "proxy.initrd")}
	return f, errors.Join(os.WriteFile(f.Kernel, []byte("kernel"), 0o600), os.WriteFile(f.Initrd, []byte("initrd"), 0o600))
}

// proxyGuest is the operating system of a fake proxy VM: the program of the real
// one on a network card that is none.
type proxyGuest struct {
	machinetest.Idle
	ordered chan order.Order
	after   func(*machinetest.Board)
}

func newProxy(b *machinetest.Board, after func(*machinetest.Board)) *proxyGuest {
	return &proxyGuest{Idle: machinetest.Idle{Board: b}, ordered: make(chan order.Order, 1), after: after}
}

// ServeHelper implements machinetest.Guest.
func (g *proxyGuest) ServeHelper(ctx context.Context, port io.ReadWriteCloser) {
	if !g.Board.Restored {
		_ = order.Write(port, order.Report{})
	}
	lines := order.NewLines(port)
	for {
		line, err := lines.Next()
		if err != nil {
			break
		}
		var o order.Order
		if json.Unmarshal(line, &o) != nil || o.Nonce == "" {
			continue
		}
		g.ordered <- o
		_ = order.Write(port, order.Report{Nonce: o.Nonce})
		break
	}
	<-ctx.Done()
}

// AttachNIC implements machinetest.Guest.
func (g *proxyGuest) AttachNIC(ctx context.Context, mac string, conn *os.File) {
	nic, err := networktest.NewGuest(conn, mac)
	if err != nil {
		return
	}
	defer func() { _ = nic.Close() }()
	var o order.Order
	select {
	case o = <-g.ordered:
	case <-ctx.Done():
		return
	}
	if nic.Assume(networktest.Lease{Addr: o.Address, Router: o.Router, DNS: o.Router}) != nil || nic.Forward() != nil {
		return
	}
	l, err := nic.Listen(o.Listen)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	if g.after != nil {
		g.after(g.Board)
	}
	_ = appliance.Forward(ctx, l, o.Probe, func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return nic.Dial(ctx, "tcp", o.Target.String())
	})
}
