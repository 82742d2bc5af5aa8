// Package proxyvm is the proxy VM of a deployment on an existing network: a
// virtual machine with a small kernel and one program of ours, that forwards
// connections to the build VM and the build VM's packets to the outside.
package proxyvm

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/cloudkernel"
	"goldsmith/internal/proxyvm/order"
)

//go:generate go run ../provision/genhelper -o bin/init-linux-amd64.gz goldsmith/internal/proxyvm/init

//go:embed bin
var bin embed.FS

// programFile is the compressed /init in bin.
const programFile = "bin/init-linux-amd64.gz"

// maxProgram bounds the unpacked /init in bytes.
const maxProgram = 32 << 20

// cmdline is the kernel command line. Self-tests of ciphers that nobody uses take
// half a second under emulation; a random place of the kernel takes as long, and is
// the same in every machine that is restored.
const cmdline = "console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr"

// modules are the kernel's modules that the program needs, each after those that
// it needs itself.
var modules = []string{
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "drivers/char/virtio_console.ko",
	"net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko",
}

// MemoryMiB is the memory of the machine. What its size promises beyond that, the
// program has no use for.
const MemoryMiB = 256

// Shape is the machine of a proxy VM with a number of CPUs.
func Shape(cpus int) machine.Shape {
	return machine.Shape{CPUs: cpus, MemoryMiB: MemoryMiB, Firmware: machine.BIOS}
}

// Files are what a proxy VM boots from.
type Files struct{ Kernel, Initrd string }

// Make writes the initial RAM file system into dir and finds the kernel.
func Make(ctx context.Context, dir string) (Files, error) {
	program, err := unpack(bin)
	if err != nil {
		return Files{}, err
	}
	kernel, moduleDir, err := cloudkernel.Find(ctx)
	if err != nil {
		return Files{}, fmt.Errorf("kernel of the proxy vm: %w", err)
	}
	if kernel, err = cloudkernel.Unpacked(kernel); err != nil {
		return Files{}, fmt.Errorf("kernel of the proxy vm: %w", err)
	}
	archive, err := cloudkernel.Initramfs(program, moduleDir, modules)
	if err != nil {
		return Files{}, err
	}
	initrd := filepath.Join(dir, "proxy.initrd")
	if err := os.WriteFile(initrd, archive, 0o600); err != nil {
		return Files{}, fmt.Errorf("write the proxy vm's file system: %w", err)
	}
	return Files{Kernel: kernel, Initrd: initrd}, nil
}

func unpack(files fs.FS) ([]byte, error) {
	packed, err := fs.ReadFile(files, programFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, arm.Errorf(arm.CodeInternal, "this binary was built without the proxy vm's program: build it with make")
	}
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "cannot read the proxy vm's program: %w", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		var program []byte
		program, err = io.ReadAll(io.LimitReader(z, maxProgram))
		if err == nil && bytes.HasPrefix(program, []byte("\x7fELF")) {
			return program, nil
		}
	}
	return nil, arm.Errorf(arm.CodeInternal, "the proxy vm's program in this binary is damaged: build it again with make")
}

// Network is what a proxy VM is told of its network.
type Network struct {
	MAC     string
	Address netip.Prefix   // in its subnet
	Router  netip.Addr     // the way out
	Listen  uint16         // TCP port
	Target  netip.AddrPort // the build VM
	Probe   netip.Addr     // where the load balancer's probes come from
}

// Order sends a booted or restored machine its order and waits until it is carried
// out. Its network card must be plugged by then, or about to be.
func Order(ctx context.Context, m machine.Machine, n Network) error {
	entropy := make([]byte, 64)
	if _, err := rand.Read(entropy); err != nil {
		return fmt.Errorf("entropy for the proxy vm: %w", err)
	}
	o := order.Order{
		Nonce: rand.Text(), Entropy: entropy, MAC: n.MAC, Address: n.Address, Router: n.Router,
		Listen: n.Listen, Target: n.Target, Probe: n.Probe,
	}
	if err := o.Check(); err != nil {
		return arm.Errorf(arm.CodeInternal, "order for the proxy vm: %w", err)
	}
	r, err := talk(ctx, m, func(port io.ReadWriter) (order.Report, error) {
		// The machine may hold the first half of a line from before it was saved.
		if _, err := io.WriteString(port, "\n"); err != nil {
			return order.Report{}, err
		}
		if err := order.Write(port, o); err != nil {
			return order.Report{}, err
		}
		return await(port, o.Nonce)
	})
	if err != nil {
		return fmt.Errorf("order the proxy vm: %w", err)
	}
	if r.Error != "" {
		return arm.Errorf(arm.CodeGuestNotReady, "the proxy vm cannot do its work: %s", r.Error)
	}
	return nil
}

// Booted waits until a machine that was started says that it has booted.
func Booted(ctx context.Context, m machine.Machine) error {
	_, err := talk(ctx, m, func(port io.ReadWriter) (order.Report, error) { return await(port, "") })
	if err != nil {
		return fmt.Errorf("wait for the proxy vm: %w", err)
	}
	return nil
}

// await reads until the report with nonce.
func await(port io.Reader, nonce string) (order.Report, error) {
	lines := order.NewLines(port)
	for {
		line, err := lines.Next()
		if err != nil {
			return order.Report{}, err
		}
		var r order.Report
		if json.Unmarshal(line, &r) == nil && r.Nonce == nonce {
			return r, nil
		}
	}
}

// talk runs f on the machine's port until f returns, ctx ends or the machine does.
func talk(ctx context.Context, m machine.Machine, f func(io.ReadWriter) (order.Report, error)) (order.Report, error) {
	type result struct {
		report order.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		r, err := f(m.Helper())
		done <- result{r, err}
	}()
	select {
	case r := <-done:
		return r.report, r.err
	case <-ctx.Done():
	case <-m.Exited():
	}
	_ = m.Helper().Close() // ends f
	<-done
	if cause := context.Cause(ctx); cause != nil {
		return order.Report{}, cause
	}
	if err := m.Wait(ctx); err != nil {
		return order.Report{}, err
	}
	return order.Report{}, arm.Errorf(arm.CodeMachine, "the proxy vm powered off")
}

// Spec is a machine that boots files, with its scratch files in dir.
func (f Files) Spec(name, dir string, shape machine.Shape) machine.Spec {
	return machine.Spec{Name: name, Shape: shape, Dir: dir, Kernel: f.Kernel, Initrd: f.Initrd, Cmdline: cmdline}
}
