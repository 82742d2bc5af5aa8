// Package buildtest is a laboratory for whole builds without a virtual machine:
// an engine on a directory of the test's, a fake hypervisor whose guests have a
// helper, a network card and an SSH server, and a base image made on the spot.
package buildtest

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"goldsmith/internal/artifact"
	"goldsmith/internal/build"
	"goldsmith/internal/catalog"
	"goldsmith/internal/event"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/plan"
)

// Base is the catalog entry that templates of the lab build from.
var Base = catalog.URN{Publisher: "Lab", Offer: "linux", SKU: "gen2", Version: catalog.Latest}

// recipe makes Base.
const recipe = "lab"

// Lab is one data directory with an engine on it.
type Lab struct {
	testing.TB
	Data    string // the data directory
	Scratch string // for files of the test
	Fake    *machinetest.Fake
	Engine  *build.Engine

	guests string

	mu     sync.Mutex
	script Script
}

// Option changes an engine's configuration.
type Option func(*build.Config)

// New opens a lab that ends with the test.
func New(t testing.TB, options ...Option) *Lab {
	t.Helper()
	return Open(t, filepath.Join(t.TempDir(), "data"), options...)
}

// Open opens a lab on a data directory that others may have open as well.
func Open(t testing.TB, data string, options ...Option) *Lab {
	t.Helper()
	l := &Lab{TB: t, Data: data, Scratch: t.TempDir(), guests: t.TempDir()}
	l.Fake = machinetest.NewFake(func(b *machinetest.Board) machinetest.Guest {
		l.mu.Lock()
		script := l.script
		l.mu.Unlock()
		if b.Spec.Kernel != "" {
			return newProxy(b, script.Proxy)
		}
		return newGuest(l, script, b)
	})
	e, err := build.Open(t.Context(), l.config(options))
	if err != nil {
		t.Fatal(err)
	}
	l.Engine = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// config is the configuration of the lab's engine.
func (l *Lab) config(options []Option) build.Config {
	cfg := build.Config{
		Data: l.Data,
		Hypervisor: func(context.Context) (machine.Hypervisor, string, error) {
			return l.Fake, "the fake of machinetest", nil
		},
		Host: plan.Host{CPUs: 1, MemoryMiB: 512, Sizes: plan.AzureVMSizes()},
		Fetch: artifact.Config{
			Local: true, Attempts: 2, BackoffUnit: time.Millisecond, Timeout: 20 * time.Second, Stall: 5 * time.Second,
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		},
		Shipped: []catalog.Entry{{
			URN: Base, Title: "the lab's base", Generation: 2, OS: catalog.Linux, Shipped: true,
			Source: catalog.Source{Recipe: recipe, Release: "1.0"},
		}},
		Makers: map[string]catalog.Maker{recipe: catalog.MakerFunc(func(_ context.Context, out string, _ event.Sink) error {
			return WriteBaseDisk(out)
		})},
		ProxyFiles:  writeProxyFiles,
		BootTimeout: 20 * time.Second, RestoreTimeout: 20 * time.Second, PowerOffTimeout: 20 * time.Second,
	}
	for _, o := range options {
		o(&cfg)
	}
	return cfg
}

// SetScript says what guests that start from now on do.
func (l *Lab) SetScript(s Script) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.script = s
}

// File writes a file of the test's and returns its path.
func (l *Lab) File(name, content string) string {
	l.Helper()
	path := filepath.Join(l.Scratch, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		l.Fatal(err)
	}
	return path
}

// Journal reads what the guests wrote to a stored image.
func (l *Lab) Journal(image string) []string {
	l.Helper()
	raw := filepath.Join(l.TempDir(), "journal.raw")
	if err := l.Engine.Export(l.Context(), image, raw, nil); err != nil {
		l.Fatal(err)
	}
	f, err := os.Open(raw)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	entries, err := ReadJournal(f)
	if err != nil {
		l.Fatal(err)
	}
	return entries
}
