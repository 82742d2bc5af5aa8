package build

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/nsg"
	"goldsmith/internal/proxyvm"
)

// proxyDir is where saved proxy VMs are kept, below the data directory, each in a
// directory that is named by what it depends on.
const proxyDir = "proxyvm"

// proxyBootTimeout is how long a proxy VM may take to do its work.
const proxyBootTimeout = 2 * time.Minute

// proxy is the proxy VM of one network, from its start on.
type proxy struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	failed chan struct{} // closed when it did not start, or ended

	mu      sync.Mutex
	closing bool
	err     error // why it failed
}

// openNetwork makes the network of the run as it was deployed, and starts its
// proxy VM, if it has one, without waiting for it.
func (b *builder) openNetwork(ctx context.Context, guest *vm) error {
	cfg := b.deployed.config
	seen := b.observe()
	cfg.OnFlow, cfg.OnDenied = seen.OnFlow, seen.OnDenied
	if cfg.Services == nil {
		cfg.Egress = b.engine.cfg.Egress
	}
	if cfg.Proxy != nil {
		p := *cfg.Proxy
		p.OnHealth = b.health
		cfg.Proxy = &p
	}
	b.giveIdentities(guest, &cfg)
	made, err := b.engine.newNetwork(cfg)
	if err != nil {
		return fmt.Errorf("make the build network: %w", err)
	}
	guest.network = made
	b.recorder.watch(made)
	n, ok := made.(*network.Private)
	if !ok {
		return nil
	}
	guest.matched = func(last bool) { b.matched(n, last) }
	if b.deployed.proxy == nil {
		return nil
	}
	pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	guest.proxy = &proxy{cancel: cancel, failed: make(chan struct{})}
	guest.proxy.work.Go(func() { guest.proxy.end(b.runProxy(pctx, n)) })
	return nil
}

// end records why the proxy VM is gone.
func (p *proxy) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if !p.closing {
		close(p.failed)
	}
}

// cause is why the proxy VM failed.
func (p *proxy) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return arm.Errorf(arm.CodeMachine, "the proxy vm is gone, and with it the builder's way to the build vm: %w", p.err)
}

// close ends the proxy VM and waits.
func (p *proxy) close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}

// runProxy starts the proxy VM and keeps it until ctx ends. It returns why it
// ended.
func (b *builder) runProxy(ctx context.Context, n *network.Private) (err error) {
	start := time.Now()
	sctx, cancel := context.WithTimeoutCause(ctx, proxyBootTimeout, errors.New("it did not start in time"))
	defer cancel()
	m, how, err := b.startProxy(sctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p := b.deployed.config.Proxy
	err = proxyvm.Order(sctx, m, proxyvm.Network{
		MAC: network.ProxyMAC, Address: netip.PrefixFrom(p.Addr, b.deployed.config.Subnet.Bits()), Router: b.deployed.config.Router,
		Listen: p.Port, Target: netip.AddrPortFrom(b.deployed.config.Guest, b.deployed.port), Probe: nsg.ProbeAddress,
	})
	if err != nil {
		return err
	}
	if err := n.AwaitProxy(sctx); err != nil {
		return fmt.Errorf("the load balancer's probe finds no healthy proxy vm: %w", err)
	}
	b.decide("proxy vm (%s) %s and healthy after %s", b.deployed.proxy.Name, how, time.Since(start).Round(10*time.Millisecond))
	select {
	case <-m.Exited():
		if err := m.Wait(ctx); err != nil {
			return err
		}
		return errors.New("it powered off")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startProxy restores the saved proxy VM, or boots one.
func (b *builder) startProxy(ctx context.Context, n *network.Private) (m machine.Machine, how string, err error) {
	hypervisor, _, err := b.engine.vms.get(ctx)
	if err != nil {
		return nil, "", err
	}
	saved, err := b.engine.savedProxy(ctx, hypervisor, b.proxyShape())
	if err != nil {
		return nil, "", err
	}
	work := filepath.Join(b.work, "proxy")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, "", fmt.Errorf("make the proxy vm's directory: %w", err)
	}
	spec := saved.files.Spec(b.name+"-proxy", work, b.proxyShape())
	wire, err := n.AttachProxy(ctx)
	if err != nil {
		return nil, "", err
	}
	nic := machine.NIC{MAC: network.ProxyMAC, Conn: wire}
	if saved.state == "" {
		b.decide("the proxy vm boots: %v", saved.why)
		spec.NICAtBoot = &nic
		m, err = hypervisor.Start(ctx, spec)
		return m, "booted", err
	}
	spec.RAMFile = saved.ram
	if m, err = hypervisor.Restore(ctx, spec, saved.state); err != nil {
		return nil, "", errors.Join(err, wire.Close())
	}
	if err := m.PlugNIC(ctx, nic); err != nil {
		return nil, "", errors.Join(err, m.Close())
	}
	return m, "restored", nil
}

func (b *builder) proxyShape() machine.Shape {
	size, _ := b.deployed.proxy.Cap(b.engine.cfg.Host.CPUs, b.engine.cfg.Host.MemoryMiB)
	return proxyvm.Shape(size.VCPUs)
}

// savedProxy is what proxy VMs are restored from.
type savedProxy struct {
	files      proxyvm.Files
	ram, state string // "" when there is no saved state
	why        error  // why not
}

// savedProxy boots a proxy VM up to where it waits for its order, and saves it,
// unless that was done before.
func (e *Engine) savedProxy(ctx context.Context, h machine.Hypervisor, shape machine.Shape) (savedProxy, error) {
	fingerprint, err := h.Fingerprint(ctx, shape)
	if err != nil {
		return savedProxy{}, err
	}
	scratch, err := os.MkdirTemp(filepath.Join(e.dir, proxyDir), ".new-")
	if err != nil {
		return savedProxy{}, fmt.Errorf("make the proxy vm: %w", err)
	}
	defer os.RemoveAll(scratch)
	files, err := e.proxyFiles(ctx, scratch)
	if err != nil {
		return savedProxy{}, err
	}
	initrd, err := os.ReadFile(files.Initrd)
	if err != nil {
		return savedProxy{}, fmt.Errorf("make the proxy vm: %w", err)
	}
	key := hexDigest([]byte(fingerprint + "\n" + files.Kernel + "\n" + hexDigest(initrd)))
	unlock, err := e.lock(ctx, "proxyvm-"+key, nil)
	if err != nil {
		return savedProxy{}, err
	}
	defer unlock()
	dir := filepath.Join(e.dir, proxyDir, key)
	at := func(dir string) savedProxy {
		return savedProxy{
			files: proxyvm.Files{Kernel: files.Kernel, Initrd: filepath.Join(dir, filepath.Base(files.Initrd))},
			ram:   filepath.Join(dir, "ram"), state: filepath.Join(dir, "state"),
		}
	}
	if _, err := os.Stat(at(dir).state); err == nil {
		// Garbage collection goes by when it was last used.
		now := time.Now()
		if err := os.Chtimes(dir, now, now); err != nil {
			return savedProxy{}, fmt.Errorf("note the use of the saved proxy vm: %w", err)
		}
		return at(dir), nil
	}
	made := at(scratch)
	if why := made.make(ctx, h, shape, scratch); why != nil {
		if ctx.Err() != nil {
			return savedProxy{}, why
		}
		// It can be booted without having been saved; its files stay for that.
		if err := os.RemoveAll(dir); err != nil {
			return savedProxy{}, err
		}
		if err := errors.Join(removeIfThere(made.ram), os.Rename(scratch, dir)); err != nil {
			return savedProxy{}, fmt.Errorf("keep the proxy vm: %w", err)
		}
		return savedProxy{files: at(dir).files, why: why}, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return savedProxy{}, err
	}
	if err := os.Rename(scratch, dir); err != nil {
		return savedProxy{}, fmt.Errorf("keep the saved proxy vm: %w", err)
	}
	return at(dir), nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// make boots and saves a proxy VM.
func (s savedProxy) make(ctx context.Context, h machine.Hypervisor, shape machine.Shape, dir string) error {
	spec := s.files.Spec("goldsmith-proxy", dir, shape)
	spec.RAMFile = s.ram
	m, err := h.Start(ctx, spec)
	if err != nil {
		return err
	}
	if err := proxyvm.Booted(ctx, m); err != nil {
		return errors.Join(err, m.Close())
	}
	return errors.Join(m.Save(ctx, s.state), m.Close())
}

// proxyFiles makes what a proxy VM boots from.
func (e *Engine) proxyFiles(ctx context.Context, dir string) (proxyvm.Files, error) {
	if e.cfg.ProxyFiles != nil {
		return e.cfg.ProxyFiles(ctx, dir)
	}
	return proxyvm.Make(ctx, dir)
}
