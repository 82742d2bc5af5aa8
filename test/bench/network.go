package main

import (
	"context"
	"embed"
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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
)

// switchEnv makes this program the child that is a switch between the sockets of
// descriptors 3 and 4; its value is the largest packet in bytes.
const switchEnv = "GOLDSMITH_BENCH_SWITCH"

// rivalSource is a program with the switch of gvisor-tap-vsock. It is kept as text
// because its modules are not this program's.
//
//go:embed gvisortap/*.txt
var rivalSource embed.FS

// Ends of the measured switch.
var (
	nearMAC, farMAC   = frame.MAC{2, 0, 0, 0, 0, 1}, frame.MAC{2, 0, 0, 0, 0, 2}
	nearAddr, farAddr = netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.5")
)

// networks measures the parts of a build's network, rivals beside.
func networks(ctx context.Context, r *report, work string, rounds int) error {
	for _, f := range []func() error{
		func() error { return ruleEvaluation(ctx, r) },
		func() error { return switches(ctx, r, work, rounds) },
		func() error { return gateways(ctx, r, work, rounds) },
		func() error { return proxies(ctx, r, work, rounds) },
	} {
		if err := f(); err != nil {
			return fmt.Errorf("networks: %w", err)
		}
	}
	return nil
}

// ruleEvaluation takes over the figure of a Go benchmark.
func ruleEvaluation(ctx context.Context, r *report) error {
	cmd := exec.CommandContext(ctx, "go", "test", "./internal/nsg", "-run", "^$", "-bench", "^BenchmarkEstablished$")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("measure the rules: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasPrefix(f[0], "BenchmarkEstablished") && f[3] == "ns/op" {
			v, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				return err
			}
			r.add("network", "1,000 rules, packet of an established flow", "ns", "to reach: under 1,000", v)
		}
	}
	return nil
}

// switches measures the switch and that of gvisor-tap-vsock in turns, each a
// process of its own between the same two ends.
func switches(ctx context.Context, r *report, work string, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	rival, err := buildRival(ctx, filepath.Join(work, "gvisortap"))
	if err != nil {
		return fmt.Errorf("build the switch of gvisor-tap-vsock: %w", err)
	}
	for _, size := range []int{1514, 9014} {
		what := fmt.Sprintf("switch, frames of %d bytes", size)
		for range rounds {
			ours, err := switched(ctx, self, size)
			if err != nil {
				return fmt.Errorf("the switch: %w", err)
			}
			theirs, err := switched(ctx, rival, size)
			if err != nil {
				return fmt.Errorf("the switch of gvisor-tap-vsock: %w", err)
			}
			r.join("network", what, "Gbit/s", "between two sockets", ours)
			r.join("network", what+", gvisor-tap-vsock v0.8.9", "Gbit/s", "", theirs)
			r.join("network", what+", ratio", "x", "to reach: 2", ours/theirs)
		}
	}
	return nil
}

func buildRival(ctx context.Context, dir string) (program string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		text, err := rivalSource.ReadFile("gvisortap/" + name + ".txt")
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", "gvisortap", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "gvisortap"), nil
}

// Of one measurement of a switch.
const (
	switchTime = 2 * time.Second
	batchBytes = 64 << 10  // written at once
	window     = 512 << 10 // bytes under way at most, as a TCP connection has
)

// switched starts a program that is a switch and measures in Gbit/s what it
// carries from one end to the other. Like a TCP connection the sender is never
// more than a window ahead, so no switch need drop anything.
func switched(ctx context.Context, program string, size int) (rate float64, err error) {
	var ends, wires [2]*os.File
	for i := range ends {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		ends[i], wires[i] = os.NewFile(uintptr(fds[0]), "end"), os.NewFile(uintptr(fds[1]), "wire")
	}
	var conns [2]net.Conn
	for i, f := range ends {
		if conns[i], err = net.FileConn(f); err != nil {
			return 0, err
		}
		_ = f.Close()
		defer conns[i].Close()
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), switchEnv+"="+strconv.Itoa(size-frame.HeaderSize))
	cmd.ExtraFiles = wires[:]
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for _, w := range wires {
		_ = w.Close()
	}
	rate, err = carried(conns[0], conns[1], size)
	for _, c := range conns {
		_ = c.Close()
	}
	_ = cmd.Wait() // it ends with its sockets, however it likes
	return rate, err
}

// carried measures what goes from near to far.
func carried(near, far net.Conn, size int) (rate float64, err error) {
	one := frame.Datagram{
		From: nearMAC, To: farMAC, Source: netip.AddrPortFrom(nearAddr, 4000), Target: netip.AddrPortFrom(farAddr, 5000),
		Payload: make([]byte, size-42),
	}.Frame()
	back := frame.Datagram{
		From: farMAC, To: nearMAC, Source: netip.AddrPortFrom(farAddr, 5000), Target: netip.AddrPortFrom(nearAddr, 4000), Payload: []byte("here"),
	}.Frame()
	// A switch that learns has to hear of the far end, and has when a frame arrives.
	if _, err := far.Write(frame.Append(nil, back)); err != nil {
		return 0, err
	}
	frames := frame.NewReader(far)
	if err := reached(near, far, one, frames); err != nil {
		return 0, err
	}
	n := max(1, batchBytes/len(one))
	var batch []byte
	for range n {
		batch = frame.Append(batch, one)
	}
	var received atomic.Int64
	tokens := make(chan struct{}, window/batchBytes)
	for range cap(tokens) {
		tokens <- struct{}{}
	}
	var g errgroup.Group
	g.Go(func() error {
		for i := 1; ; i++ {
			if _, err := frames.Next(); err != nil {
				return err
			}
			received.Add(1)
			if i%n == 0 {
				tokens <- struct{}{}
			}
		}
	})
	stop := make(chan struct{})
	g.Go(func() error {
		for {
			select {
			case <-tokens:
			case <-stop:
				return nil
			}
			if _, err := near.Write(batch); err != nil {
				return err
			}
		}
	})
	warm := time.NewTimer(switchTime / 4)
	<-warm.C
	before, start := received.Load(), time.Now()
	<-time.NewTimer(switchTime).C
	count, took := received.Load()-before, time.Since(start)
	close(stop)
	_ = far.Close()
	if err := g.Wait(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return float64(count) * float64(size) * 8 / took.Seconds() / 1e9, nil
}

// reached sends frames until one arrives.
func reached(near, far net.Conn, one []byte, frames *frame.Reader) error {
	for range 100 {
		if _, err := near.Write(frame.Append(nil, one)); err != nil {
			return err
		}
		if err := far.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		_, err := frames.Next()
		if err == nil {
			return far.SetReadDeadline(time.Time{})
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return errors.New("nothing gets through")
}

// switchChild is a switch between descriptors 3 and 4.
func switchChild(mtu string) {
	err := func() error {
		n, err := strconv.Atoi(mtu)
		if err != nil {
			return err
		}
		sw := netswitch.New()
		var ports []*netswitch.Port
		for i, c := range []netswitch.PortConfig{
			{Name: "near", MAC: nearMAC, Addrs: []netip.Addr{nearAddr}, MTU: n},
			{Name: "far", MAC: farMAC, Addrs: []netip.Addr{farAddr}, MTU: n},
		} {
			f := os.NewFile(uintptr(3+i), "wire")
			conn, err := net.FileConn(f)
			if err != nil {
				return err
			}
			_ = f.Close()
			p, err := sw.Attach(conn, c)
			if err != nil {
				return err
			}
			ports = append(ports, p)
		}
		<-ports[0].Done()
		return sw.Close()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
