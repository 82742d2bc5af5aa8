package buildtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"goldsmith/internal/guest/guesttest"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/network/networktest"
	"goldsmith/internal/provision/helpertest"
	"goldsmith/internal/provision/protocol"
)

// agentScript stands for the Azure agent, whose real one would deprovision the
// host that runs the test.
const agentScript = "#!/bin/sh\necho \"waagent $*\"\n"

// Script is what a guest is scripted to do. The zero value is a healthy guest.
type Script struct {
	// Helper is called before a request to the helper is carried out, and may fail
	// it or hold it until ctx ends.
	Helper func(ctx context.Context, g *Guest, op protocol.Op) error
	// Command is called before a command of the builder runs; text is the content
	// of the script that the command names, "" for none. With handled the command
	// does not run and ends with exit.
	Command func(ctx context.Context, g *Guest, command, text string) (exit int, handled bool)
	// KeepOn is a guest that does not power off when it is generalised.
	KeepOn bool
	// Proxy is called when a proxy VM has carried out its order; nil does nothing.
	Proxy func(b *machinetest.Board)
	// Homeless is a restored guest that does not know its address any more and asks
	// for one, once it is asked for it.
	Homeless bool
	// NoAgent is a guest without the Azure agent.
	NoAgent bool
}

// Guest is the operating system of one fake machine: the helper's server, a
// network card with a DHCP client, an SSH server that runs commands in a
// directory of its own, and a journal on its disk.
type Guest struct {
	Board *machinetest.Board

	lab    *Lab
	script Script
	dir    string
	helper helpertest.Guest
	broken error // why it cannot work

	mu      sync.Mutex
	asked   func()        // the helper was asked for the address
	wanted  chan struct{} // closed by asked
	up      chan struct{} // closed when the card has an address
	nic     *networktest.Guest
	lease   *networktest.Lease // that of the card it was saved with, until that has it again
	server  *guesttest.Server
	next    int      // number of the next entry of the journal
	pending []string // entries not yet on the disk
}

var (
	_ machinetest.Guest      = (*Guest)(nil)
	_ machinetest.DiskWriter = (*Guest)(nil)
	_ machinetest.Rememberer = (*Guest)(nil)
)

// newGuest makes the guest of a machine.
func newGuest(l *Lab, script Script, b *machinetest.Board) *Guest {
	g := &Guest{Board: b, lab: l, script: script, up: make(chan struct{}), wanted: make(chan struct{})}
	g.asked = sync.OnceFunc(func() { close(g.wanted) })
	g.helper = helpertest.Guest{
		Size:       b.DiskBytes(),
		Booted:     protocol.Ready{State: "running", Waagent: !script.NoAgent},
		On:         g.request,
		Identified: g.identified,
	}
	if !script.KeepOn {
		g.helper.Off = b.PowerOff
	}
	g.broken = g.boot()
	return g
}

// boot prepares the guest's directory and reads its disk.
func (g *Guest) boot() (err error) {
	if g.dir, err = os.MkdirTemp(g.lab.guests, "guest-"); err != nil {
		return err
	}
	bin := filepath.Join(g.dir, ".bin")
	for _, d := range []string{bin, filepath.Join(g.dir, "tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "waagent"), []byte(agentScript), 0o755); err != nil {
		return err
	}
	// As the helper of a real guest does when it has booted; a restored one has it.
	deprovision := filepath.Join(g.dir, protocol.DeprovisionFile)
	if err := os.WriteFile(deprovision, []byte(protocol.Deprovision), 0o755); err != nil {
		return err
	}
	g.Board.Print("guest: power on\n")
	if g.Board.Restored {
		return nil // LoadMemory follows
	}
	if g.next, err = journalLength(g.Board.Spec.Disk, g.lab.Data); err != nil {
		return err
	}
	g.note("boot")
	return nil
}

// note adds an entry to the journal.
func (g *Guest) note(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = append(g.pending, fmt.Sprintf(format, args...))
}

// Drop breaks the SSH connections, as a guest whose sshd is killed.
func (g *Guest) Drop() {
	g.mu.Lock()
	s := g.server
	g.mu.Unlock()
	if s != nil {
		s.Drop()
	}
}

// Dir is the directory that stands for the guest's root.
func (g *Guest) Dir() string { return g.dir }

// ServeHelper implements machinetest.Guest.
func (g *Guest) ServeHelper(ctx context.Context, port io.ReadWriteCloser) {
	defer g.end()
	if g.broken != nil {
		g.Board.Crash(fmt.Errorf("the guest does not boot: %w", g.broken))
		return
	}
	if err := g.helper.Serve(ctx, port); err != nil {
		g.Board.Print("guest: helper: " + err.Error() + "\n")
	}
	<-ctx.Done() // the machine goes on when its helper is gone
}

// end stops what serves the guest.
func (g *Guest) end() {
	g.mu.Lock()
	s := g.server
	g.server = nil
	g.mu.Unlock()
	if s != nil {
		_ = s.Close() // never fails
	}
	_ = os.RemoveAll(g.dir) // the test's own directory goes anyway
}

// request is called before each request to the helper.
func (g *Guest) request(ctx context.Context, op protocol.Op) error {
	if g.script.Helper != nil {
		if err := g.script.Helper(ctx, g, op); err != nil {
			return err
		}
	}
	switch op {
	case protocol.OpNetwork:
		g.asked()
		g.mu.Lock()
		up := g.up
		g.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case protocol.OpGrow:
		g.note("grow to %d", g.Board.DiskBytes())
	case protocol.OpGeneralise:
		g.note("generalise")
	}
	return nil
}

// identified starts an SSH server with the keys of a new identity.
func (g *Guest) identified(id protocol.Identify) error {
	host, err := ssh.ParsePrivateKey([]byte(id.HostKey))
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	user, _, _, _, err := ssh.ParseAuthorizedKey([]byte(id.AuthorizedKey))
	if err != nil {
		return fmt.Errorf("authorized key: %w", err)
	}
	s, err := guesttest.New(guesttest.Config{Dir: g.dir, HostKey: host, Authorized: user, Handler: g.command})
	if err != nil {
		return err
	}
	g.mu.Lock()
	old := g.server
	g.server = s
	g.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// command executes a command of the builder.
func (g *Guest) command(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) int {
	text := ""
	// A step with parameters sets them before it becomes its script.
	script := command[strings.LastIndex(command, " exec ")+1:]
	script = strings.TrimPrefix(script, "exec ")
	if path, ok := strings.CutPrefix(script, "/tmp/"); !ok {
		// Not a customizer's script.
	} else if b, err := os.ReadFile(filepath.Join(g.dir, "tmp", path)); err == nil {
		text = string(b)
	}
	if g.script.Command != nil {
		if exit, handled := g.script.Command(ctx, g, command, text); handled {
			return exit
		}
	}
	exit := guesttest.Shell(g.dir)(ctx, command, stdin, stdout, stderr)
	if text != "" {
		_, body, _ := strings.Cut(text, "\n")
		g.note("%s: %s", filepath.Base(script), strings.TrimSpace(body))
	}
	return exit
}

// AttachNIC implements machinetest.Guest.
func (g *Guest) AttachNIC(ctx context.Context, mac string, conn *os.File) {
	nic, err := networktest.NewGuest(conn, mac)
	if err != nil {
		g.Board.Print("guest: network card: " + err.Error() + "\n")
		return
	}
	defer func() { _ = nic.Close() }()
	if err := g.configure(ctx, nic); err != nil {
		g.Board.Print("guest: dhcp: " + err.Error() + "\n")
		return
	}
	sshd, err := nic.Listen(22)
	if err != nil {
		g.Board.Print("guest: sshd: " + err.Error() + "\n")
		return
	}
	defer context.AfterFunc(ctx, func() { _ = sshd.Close() })()
	g.mu.Lock()
	g.nic = nic
	close(g.up)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.up = make(chan struct{})
		g.mu.Unlock()
	}()
	for {
		c, err := sshd.Accept()
		if err != nil {
			return
		}
		g.serve(c)
	}
}

// configure gives a card its address: the one that it was saved with, or a new lease.
func (g *Guest) configure(ctx context.Context, nic *networktest.Guest) error {
	g.mu.Lock()
	lease := g.lease
	g.lease = nil
	g.mu.Unlock()
	switch {
	case lease == nil:
		return nic.Configure(ctx)
	case !g.script.Homeless:
		return nic.Assume(*lease)
	}
	select {
	case <-g.wanted:
		return nic.Configure(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Dial opens a TCP connection from the guest, whose card must be up.
func (g *Guest) Dial(ctx context.Context, address string) (net.Conn, error) {
	g.mu.Lock()
	nic := g.nic
	g.mu.Unlock()
	return nic.Dial(ctx, "tcp", address)
}

// serve gives a connection to the SSH server.
func (g *Guest) serve(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server == nil {
		_ = c.Close()
		return
	}
	_ = g.server.Serve(c) // a closed server closes it
}

// PowerButton implements machinetest.Guest.
func (g *Guest) PowerButton(context.Context) { g.Board.PowerOff() }

// WriteDisk implements machinetest.DiskWriter.
func (g *Guest) WriteDisk(overlay string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := appendJournal(overlay, g.next, g.pending, g.Board.DiskBytes()); err != nil {
		return fmt.Errorf("the guest writes its disk: %w", err)
	}
	g.next += len(g.pending)
	g.pending = nil
	return nil
}

// memory is what a saved guest remembers: its place in the journal, the address of its
// card, and the files in /tmp, as if it were in memory.
type memory struct {
	Next  int                `json:"next"`
	Lease *networktest.Lease `json:"lease"`
	Files map[string][]byte  `json:"files"`
}

// SaveMemory implements machinetest.Rememberer.
func (g *Guest) SaveMemory() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := memory{Next: g.next + len(g.pending), Files: map[string][]byte{}} // the disk is written after the memory
	if g.nic != nil {
		m.Lease = g.nic.Lease()
	}
	entries, err := os.ReadDir(filepath.Join(g.dir, "tmp"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if m.Files[e.Name()], err = os.ReadFile(filepath.Join(g.dir, "tmp", e.Name())); err != nil {
			return nil, err
		}
	}
	return json.Marshal(m)
}

// LoadMemory implements machinetest.Rememberer.
func (g *Guest) LoadMemory(text []byte) error {
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	g.next, g.lease = m.Next, m.Lease
	for name, content := range m.Files {
		if err := os.WriteFile(filepath.Join(g.dir, "tmp", name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
