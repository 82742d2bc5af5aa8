package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
	"goldsmith/internal/machine/qemu"
	"goldsmith/internal/network"
	"goldsmith/internal/network/networktest/standin"
	"goldsmith/internal/nsg"
	"goldsmith/internal/proxyvm"
)

// movedBytes go each way between a guest and the outside.
const movedBytes = 64 << 20

// gateways measures how fast one guest sends to the outside and receives from it,
// over this program's gateway and over QEMU's own user network, in turns.
func gateways(ctx context.Context, r *report, work string, rounds int) error {
	initrd := filepath.Join(work, "standin.initrd")
	kernel, err := standin.Build(ctx, initrd)
	if err != nil {
		return err
	}
	up, err := listenFor(func(c net.Conn) {
		if n, err := io.Copy(io.Discard, c); err == nil && n == movedBytes {
			_, _ = c.Write([]byte{1})
		}
	})
	if err != nil {
		return err
	}
	defer up.Close()
	down, err := listenFor(func(c net.Conn) { _, _ = io.CopyN(c, zeros{}, movedBytes) })
	if err != nil {
		return err
	}
	defer down.Close()
	g := &gauge{kernel: kernel, initrd: initrd, up: up.Addr().String(), down: down.Addr().String()}
	for range rounds {
		ours, err := g.gateway(ctx)
		if err != nil {
			return fmt.Errorf("guest behind the gateway: %w", err)
		}
		theirs, err := g.slirp(ctx)
		if err != nil {
			return fmt.Errorf("guest behind QEMU's user network: %w", err)
		}
		for i, way := range []string{"guest sends to the outside", "guest receives from the outside"} {
			r.join("network", way, "Gbit/s", "TCP, MTU 1500, TCG", ours[i])
			r.join("network", way+", QEMU's user network", "Gbit/s", "", theirs[i])
			r.join("network", way+", ratio", "x", "to reach: 0.9", ours[i]/theirs[i])
		}
	}
	return nil
}

// zeros are as many as anybody wants.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// listenFor serves connections on the loopback until the listener is closed.
func listenFor(serve func(net.Conn)) (net.Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l, nil
}

// gauge is a guest that moves bytes, and where they go.
type gauge struct{ kernel, initrd, up, down string }

// gateway measures the way over the switch and the gateway.
func (g *gauge) gateway(ctx context.Context) (rates [2]float64, err error) {
	to := map[string]string{"203.0.113.10:80": g.up, "203.0.113.11:80": g.down}
	made, err := network.NewPrivate(network.Config{Dial: func(ctx context.Context, proto string, addr netip.AddrPort) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, proto, to[addr.String()])
	}})
	if err != nil {
		return rates, err
	}
	defer made.Close()
	wire, err := made.AttachBuildVM(ctx)
	if err != nil {
		return rates, err
	}
	defer wire.Close()
	return g.run(ctx, "socket,id=net0,fd=3", []*os.File{wire}, standin.Config{
		MAC: network.BuildMAC, Address: netip.PrefixFrom(network.BuildAddress, 24), Router: network.BuildGateway,
		Send: netip.MustParseAddrPort("203.0.113.10:80"), Receive: netip.MustParseAddrPort("203.0.113.11:80"), Bytes: movedBytes,
	})
}

// slirp measures the way over QEMU's own user network, where 10.0.2.2 is the host.
func (g *gauge) slirp(ctx context.Context) (rates [2]float64, err error) {
	host := func(at string) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("10.0.2.2"), netip.MustParseAddrPort(at).Port())
	}
	return g.run(ctx, "user,id=net0", nil, standin.Config{
		MAC: network.BuildMAC, Address: netip.MustParsePrefix("10.0.2.15/24"), Router: netip.MustParseAddr("10.0.2.2"),
		Send: host(g.up), Receive: host(g.down), Bytes: movedBytes,
	})
}

// run runs the guest to its end and returns the rates in Gbit/s, sending first.
func (g *gauge) run(ctx context.Context, netdev string, files []*os.File, c standin.Config) (rates [2]float64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the guest did not end in time"))
	defer cancel()
	line, err := c.Cmdline()
	if err != nil {
		return rates, err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", g.kernel, "-initrd", g.initrd, "-append", line,
		"-netdev", netdev, "-device", "virtio-net-pci,netdev=net0,romfile=,mac="+c.MAC)
	cmd.ExtraFiles = files
	out, err := cmd.Output()
	if err != nil {
		return rates, fmt.Errorf("%w: %s", err, out)
	}
	found := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan() && found < 2; {
		_, text, ok := strings.Cut(lines.Text(), standin.Moved)
		if !ok {
			continue
		}
		nanos, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return rates, err
		}
		rates[found] = float64(c.Bytes) * 8 / float64(nanos)
		found++
	}
	if found < 2 {
		return rates, fmt.Errorf("the guest said: %s", out)
	}
	return rates, nil
}

// proxies measures the start of a proxy VM, booted and restored, and the end of
// its network.
func proxies(ctx context.Context, r *report, work string, rounds int) error {
	installation, err := qemu.Find(qemu.Installation{})
	if err != nil {
		return err
	}
	accelerator, err := accel.Probe(ctx, accel.Config{QEMU: installation.QEMU})
	if err != nil {
		return err
	}
	dir := filepath.Join(work, "proxy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files, err := proxyvm.Make(ctx, dir)
	if err != nil {
		return err
	}
	h, spec := qemu.New(installation, accelerator), files.Spec("proxy", dir, proxyvm.Shape(1))
	saving := spec
	saving.RAMFile = filepath.Join(dir, "ram")
	state := filepath.Join(dir, "state")
	m, err := h.Start(ctx, saving)
	if err != nil {
		return err
	}
	err = proxyvm.Booted(ctx, m)
	if err == nil {
		err = m.Save(ctx, state)
	}
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	for range rounds {
		for _, way := range []struct {
			name, note string
			start      func(wire *os.File) (machine.Machine, error)
		}{
			{"booted", "to reach: at most 4", func(wire *os.File) (machine.Machine, error) {
				s := spec
				s.NICAtBoot = &machine.NIC{MAC: network.ProxyMAC, Conn: wire}
				return h.Start(ctx, s)
			}},
			{"restored", "to reach: at most 1.5", func(wire *os.File) (machine.Machine, error) {
				m, err := h.Restore(ctx, saving, state)
				if err != nil {
					return nil, errors.Join(err, wire.Close())
				}
				return m, m.PlugNIC(ctx, machine.NIC{MAC: network.ProxyMAC, Conn: wire})
			}},
		} {
			healthy, down, err := proxied(ctx, way.start)
			if err != nil {
				return fmt.Errorf("proxy VM, %s: %w", way.name, err)
			}
			r.join("network", "proxy VM "+way.name+" to healthy", "s", way.note+"; "+accelerator.Accelerator, healthy.Seconds())
			r.join("network", "proxy VM and network torn down", "s", "to reach: at most 2", down.Seconds())
		}
	}
	return nil
}

// proxied starts a proxy VM in a network, waits until it is healthy, and ends both.
func proxied(ctx context.Context, start func(wire *os.File) (machine.Machine, error)) (healthy, down time.Duration, err error) {
	addr := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	cfg := network.Config{
		Subnet: netip.MustParsePrefix("10.1.0.0/24"), Router: addr("10.1.0.1"), Guest: addr("10.1.0.7"),
		Proxy: &network.Proxy{Addr: addr("10.1.0.6"), Frontend: addr("10.1.0.5"), NAT: addr("10.1.0.4"), Port: 60001},
	}
	made, err := network.NewPrivate(cfg)
	if err != nil {
		return 0, 0, err
	}
	n := made.(*network.Private)
	began := time.Now()
	var m machine.Machine
	wire, err := n.AttachProxy(ctx)
	if err == nil {
		m, err = start(wire)
	}
	if err == nil {
		err = proxyvm.Order(ctx, m, proxyvm.Network{
			MAC: network.ProxyMAC, Address: netip.PrefixFrom(cfg.Proxy.Addr, 24), Router: cfg.Router,
			Listen: cfg.Proxy.Port, Target: netip.AddrPortFrom(cfg.Guest, 22), Probe: nsg.ProbeAddress,
		})
	}
	if err == nil {
		err = n.AwaitProxy(ctx)
	}
	healthy, began = time.Since(began), time.Now()
	if m != nil {
		err = errors.Join(err, m.Close())
	}
	err = errors.Join(err, n.Close())
	return healthy, time.Since(began), err
}
