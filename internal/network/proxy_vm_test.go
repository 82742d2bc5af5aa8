//go:build vm

package network_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
	"goldsmith/internal/machine/qemu"
	"goldsmith/internal/network"
	"goldsmith/internal/network/networktest"
	"goldsmith/internal/nsg"
	"goldsmith/internal/proxyvm"
)

// A real proxy VM, booted and restored from a saved state, is found healthy,
// carries the builder's connection, and is the build VM's way out; the one of a
// build VM that is declared Windows does so on the ports of Windows.
func TestProxyVM(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	installation, err := qemu.Find(qemu.Installation{})
	if err != nil {
		t.Fatal(err)
	}
	accelerator, err := accel.Probe(ctx, accel.Config{QEMU: installation.QEMU})
	if err != nil {
		t.Fatal(err)
	}
	h := qemu.New(installation, accelerator)
	dir := t.TempDir()
	files, err := proxyvm.Make(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	spec := func() machine.Spec {
		s := files.Spec("proxy", dir, proxyvm.Shape(1))
		if s.Console, err = os.OpenFile(filepath.Join(dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Console.Close() })
		return s
	}
	start := func(ctx context.Context, n *network.Private) (machine.Machine, error) {
		wire, err := n.AttachProxy(ctx)
		if err != nil {
			return nil, err
		}
		s := spec()
		s.NICAtBoot = &machine.NIC{MAC: network.ProxyMAC, Conn: wire}
		return h.Start(ctx, s)
	}
	t.Run("booted", func(t *testing.T) { deployment(ctx, t, start) })

	state, ram := filepath.Join(dir, "state"), filepath.Join(dir, "ram")
	s := spec()
	s.RAMFile = ram
	saved, err := h.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if err := proxyvm.Booted(ctx, saved); err != nil {
		t.Fatal(err)
	}
	if err := saved.Save(ctx, state); err != nil {
		t.Fatal(err)
	}
	restore := func(ctx context.Context, n *network.Private) (machine.Machine, error) {
		wire, err := n.AttachProxy(ctx)
		if err != nil {
			return nil, err
		}
		s := spec()
		s.RAMFile = ram
		m, err := h.Restore(ctx, s, state)
		if err != nil {
			return nil, err
		}
		return m, m.PlugNIC(ctx, machine.NIC{MAC: network.ProxyMAC, Conn: wire})
	}
	t.Run("restored", func(t *testing.T) { deployment(ctx, t, restore) })
	t.Run("declared Windows", func(t *testing.T) { declaredWindows(ctx, t, h, restore) })
	if t.Failed() {
		text, _ := os.ReadFile(filepath.Join(dir, "console"))
		t.Logf("console:\n%s", text)
	}
}

// deployment starts a proxy VM in a network with a build VM that is no machine.
func deployment(ctx context.Context, t *testing.T, start func(context.Context, *network.Private) (machine.Machine, error)) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	go answer(outside)
	made, err := network.NewPrivate(network.Config{
		Subnet: vnetSubnet, Router: vnetRouter, Guest: guestAddr,
		Proxy: &network.Proxy{Addr: proxyAddr, Frontend: lbAddr, NAT: natAddr, Port: 60001},
		Dial: func(ctx context.Context, proto string, _ netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, proto, outside.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := made.(*network.Private)
	defer n.Close()
	wire, err := n.AttachBuildVM(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g, err := networktest.NewGuest(wire, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Configure(ctx); err != nil {
		t.Fatal(err)
	}
	l, err := g.Listen(22)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go answer(l)

	began := time.Now()
	m, err := start(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = proxyvm.Order(ctx, m, proxyvm.Network{
		MAC: network.ProxyMAC, Address: netip.PrefixFrom(proxyAddr, 24), Router: vnetRouter,
		Listen: 60001, Target: netip.AddrPortFrom(guestAddr, 22), Probe: nsg.ProbeAddress,
	})
	if err != nil {
		t.Fatal(err)
	}
	ordered := time.Since(began)
	if err := n.AwaitProxy(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ordered after %v, healthy after %v", ordered, time.Since(began))
	c, err := n.DialGuest(ctx, 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echoed(t, c)
	out, err := g.Dial(ctx, "tcp", "203.0.113.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	echoed(t, out)
	// Without the proxy there is no way out.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if c, err := g.Dial(short, "tcp", "203.0.113.10:80"); err == nil {
		c.Close()
		t.Error("a way out without the proxy vm")
	}
}

// answer echoes what comes over l's connections.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func echoed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
}
