package machinetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest/talk"
)

// patience bounds every wait of the suite; a real guest boots well within it on
// a busy host.
const patience = 90 * time.Second

// Harness is a hypervisor under test. Its machines run a guest that answers the
// requests of package talk.
type Harness struct {
	Hypervisor machine.Hypervisor
	// Spec is a machine with an empty disk of its own and a seed, and without a
	// NIC, files in dir.
	Spec func(t *testing.T, dir string) machine.Spec
	// Overlay makes an empty qcow2 overlay over backing, of size bytes, as path.
	Overlay func(t *testing.T, path, backing string, size int64)
	// Kill ends the machine as an accident does.
	Kill func(t *testing.T, m machine.Machine)
}

// Conformance is what every machine.Hypervisor must do.
func Conformance(t *testing.T, newHarness func(*testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"power button":     testPowerButton,
		"seals":            testSeals,
		"plug and restore": testPlugAndRestore,
		"checkpoint":       testCheckpoint,
		"save with a card": testSavePlugged,
		"accident":         testAccident,
		"bad starts":       testBadStarts,
	} {
		t.Run(name, func(t *testing.T) { test(t, newHarness(t)) })
	}
}

// limit is a context for everything that one test waits for.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// rig is a running machine with its guest on the line.
type rig struct {
	machine.Machine
	t     *testing.T
	ctx   context.Context
	spec  machine.Spec
	guest *talk.Talker
}

func newRig(t *testing.T, ctx context.Context, spec machine.Spec, m machine.Machine, err error) *rig {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, console(spec))
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console(spec))
		}
	})
	return &rig{m, t, ctx, spec, talk.New(m.Helper())}
}

// plugged starts a machine with a card at the far end of a wire. It returns what
// tells this boot from another, too, and the bytes of the disk.
func plugged(t *testing.T, ctx context.Context, h Harness, spec machine.Spec, mac string) (r *rig, net *wire, boot string, size int64) {
	t.Helper()
	net, nic := newWire(t, mac)
	spec.NICAtBoot = &nic
	m, err := h.Hypervisor.Start(ctx, spec)
	r = newRig(t, ctx, spec, m, err)
	boot = r.ask(talk.Boot)
	size, err = strconv.ParseInt(r.ask(talk.DiskSize), 10, 64)
	r.must(err)
	return r, net, boot, size
}

func console(spec machine.Spec) string {
	if spec.Console == nil {
		return ""
	}
	text, err := os.ReadFile(spec.Console.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// ask asks the guest, which must do it.
func (r *rig) ask(request ...any) string {
	r.t.Helper()
	reply, err := r.guest.Ask(r.ctx, request...)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply
}

// must fails the test when a step failed.
func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// refused fails the test unless err is a machine's refusal.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !arm.IsCode(err, arm.CodeMachine) {
		t.Errorf("%s: got %v, want an error %s", what, err, arm.CodeMachine)
	}
}

func testPowerButton(t *testing.T, h Harness) {
	ctx := limit(t)
	spec := h.Spec(t, t.TempDir())
	m, err := h.Hypervisor.Start(ctx, spec)
	r := newRig(t, ctx, spec, m, err)
	r.ask(talk.Boot)
	refused(t, "unplug without a NIC", r.UnplugNIC(ctx))
	cancelled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("user went home")
	cancel(reason)
	for name, err := range map[string]error{
		"wait":  r.Wait(cancelled),
		"seal":  r.Seal(cancelled, spec.Disk),
		"save":  r.Save(cancelled, filepath.Join(spec.Dir, "state")),
		"power": r.PowerDown(cancelled),
	} {
		if !errors.Is(err, reason) {
			t.Errorf("%s with an ended context: %v", name, err)
		}
	}
	r.must(r.PowerDown(ctx))
	if err := r.Wait(ctx); err != nil {
		t.Errorf("after power-off: %v", err)
	}
	select {
	case <-r.Exited():
	default:
		t.Error("Exited is open after Wait")
	}
	refused(t, "seal of a machine that is off", r.Seal(ctx, spec.Disk))
	refused(t, "resize of a machine that is off", r.Resize(ctx, 1<<40))
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := r.Wait(ctx); err != nil {
		t.Errorf("after close: %v", err)
	}
}

func testSeals(t *testing.T, h Harness) {
	ctx := limit(t)
	dir := t.TempDir()
	spec := h.Spec(t, dir)
	m, err := h.Hypervisor.Start(ctx, spec)
	r := newRig(t, ctx, spec, m, err)
	boot := r.ask(talk.Boot)
	size, err := strconv.ParseInt(r.ask(talk.DiskSize), 10, 64)
	r.must(err)

	chain := []string{spec.Disk}
	for i := range 3 {
		r.ask(talk.WriteAt, i*65536, "word"+strconv.Itoa(i))
		next := filepath.Join(dir, "layer"+strconv.Itoa(i)+".qcow2")
		h.Overlay(t, next, chain[i], size)
		r.must(r.Seal(ctx, next))
		chain = append(chain, next)
	}
	sealed := digests(t, chain[:3])

	refused(t, "seal onto nothing", r.Seal(ctx, filepath.Join(dir, "missing.qcow2")))
	stale := filepath.Join(dir, "stale.qcow2")
	h.Overlay(t, stale, chain[0], size)
	refused(t, "seal onto an overlay of another disk", r.Seal(ctx, stale))
	other := filepath.Join(dir, "other.qcow2")
	h.Overlay(t, other, chain[3], size*2)
	refused(t, "seal onto an overlay of another size", r.Seal(ctx, other))
	refused(t, "shrinking", r.Resize(ctx, size-65536))

	r.must(r.Resize(ctx, size+1<<20))
	if got := r.ask(talk.AwaitSize, size+1<<20); got != strconv.FormatInt(size+1<<20, 10) {
		t.Errorf("the guest sees %s bytes after growing %d by 1 MiB", got, size)
	}
	r.ask(talk.WriteAt, 0, "changed")
	r.ask(talk.WriteAt, size, "beyond")
	last := filepath.Join(dir, "last.qcow2")
	h.Overlay(t, last, chain[3], size+1<<20)
	r.must(r.Seal(ctx, last))
	for at, want := range map[int64]string{0: "changed", 65536: "word1", 131072: "word2", size: "beyond"} {
		if got := r.ask(talk.ReadAt, at); got != want {
			t.Errorf("at %d the disk has %q, want %q", at, got, want)
		}
	}
	if got := r.ask(talk.Boot); got != boot {
		t.Error("the guest rebooted")
	}
	// A guest that powers off has no answer.
	if _, err := r.guest.Ask(ctx, talk.PowerOff); err == nil {
		t.Error("the guest answered after power-off")
	}
	if err := r.Wait(ctx); err != nil {
		t.Errorf("after the guest's power-off: %v", err)
	}
	for i, d := range digests(t, chain[:3]) {
		if d != sealed[i] {
			t.Errorf("%s changed after it was sealed", chain[i])
		}
	}
}

func digests(t *testing.T, files []string) (sums [][sha256.Size]byte) {
	t.Helper()
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(content))
	}
	return sums
}

func testPlugAndRestore(t *testing.T, h Harness) {
	ctx := limit(t)
	dir := t.TempDir()
	spec := h.Spec(t, dir)
	spec.RAMFile = filepath.Join(dir, "ram")
	const mac, other = "52:54:00:00:00:01", "52:54:00:00:00:02"
	r, wire, boot, size := plugged(t, ctx, h, spec, mac)
	state := filepath.Join(dir, "state")
	refused(t, "save with everything plugged", r.Save(ctx, state))
	if got := r.ask(talk.AwaitNIC); got != mac {
		t.Errorf("the guest's card is %s", got)
	}
	r.ask(talk.SendNIC, "first")
	wire.expect(ctx, mac, "first")
	_, second := newWire(t, other)
	refused(t, "second NIC", r.PlugNIC(ctx, second))

	if got := r.ask(talk.Disks); got != "2" {
		t.Errorf("the guest has %s disks", got)
	}
	r.must(r.UnplugSeed(ctx))
	if got := r.ask(talk.Disks); got != "1" {
		t.Errorf("the guest has %s disks without its seed", got)
	}
	refused(t, "second unplug of the seed", r.UnplugSeed(ctx))
	r.must(r.UnplugNIC(ctx))
	r.ask(talk.NoNIC)
	wire.expectEnd(ctx)
	refused(t, "second unplug of the NIC", r.UnplugNIC(ctx))
	r.ask(talk.WriteAt, 0, "saved")
	r.must(r.Save(ctx, state))
	if err := r.Wait(ctx); err != nil {
		t.Errorf("after save: %v", err)
	}
	sealed := digests(t, []string{spec.Disk, spec.RAMFile, state})

	wrong := spec
	wrong.Seed, wrong.NICAtBoot = "", nil
	wrong.Shape.MemoryMiB *= 2
	if m, err := h.Hypervisor.Restore(ctx, wrong, state); err == nil {
		t.Error("a state was restored with twice the memory")
		m.Close()
	}
	for i, mac := range []string{mac, other} {
		clone := spec
		clone.Seed, clone.NICAtBoot = "", nil
		clone.Name = "clone" + strconv.Itoa(i)
		clone.Disk = filepath.Join(dir, clone.Name+".qcow2")
		h.Overlay(t, clone.Disk, spec.Disk, size)
		m, err := h.Hypervisor.Restore(ctx, clone, state)
		c := newRig(t, ctx, clone, m, err)
		if got := c.ask(talk.Boot); got != boot {
			t.Errorf("%s booted instead of going on", clone.Name)
		}
		if got := c.ask(talk.ReadAt, 0); got != "saved" {
			t.Errorf("%s has %q on its disk", clone.Name, got)
		}
		c.ask(talk.WriteAt, 0, clone.Name)
		wire, nic := newWire(t, mac)
		c.must(c.PlugNIC(ctx, nic))
		if got := c.ask(talk.AwaitNIC); got != mac {
			t.Errorf("%s has card %s, want %s", clone.Name, got, mac)
		}
		c.ask(talk.SendNIC, clone.Name)
		wire.expect(ctx, mac, clone.Name)
		c.must(c.UnplugNIC(ctx))
		refused(t, "save of a restored machine", c.Save(ctx, state+clone.Name))
		c.must(c.Close())
		refused(t, "wait after close", c.Wait(ctx))
	}
	for i, d := range digests(t, []string{spec.Disk, spec.RAMFile, state}) {
		if d != sealed[i] {
			t.Errorf("restored machines changed what they were restored from (%d)", i)
		}
	}
}

func testAccident(t *testing.T, h Harness) {
	ctx := limit(t)
	spec := h.Spec(t, t.TempDir())
	m, err := h.Hypervisor.Start(ctx, spec)
	r := newRig(t, ctx, spec, m, err)
	r.ask(talk.Boot)
	h.Kill(t, m)
	refused(t, "wait after an accident", r.Wait(ctx))
	if _, err := io.ReadAll(m.Helper()); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the helper's port does not end: %v", err)
	}
	_, nic := newWire(t, "52:54:00:00:00:01")
	for what, err := range map[string]error{
		"seal":       r.Seal(ctx, spec.Disk),
		"resize":     r.Resize(ctx, 1<<40),
		"save":       r.Save(ctx, filepath.Join(spec.Dir, "state")),
		"plug":       r.PlugNIC(ctx, nic),
		"unplug":     r.UnplugNIC(ctx),
		"seed":       r.UnplugSeed(ctx),
		"power down": r.PowerDown(ctx),
	} {
		refused(t, what+" after an accident", err)
	}
}

func testBadStarts(t *testing.T, h Harness) {
	ctx := limit(t)
	for name, change := range map[string]func(*machine.Spec){
		"no disk":         func(s *machine.Spec) { s.Disk += ".missing" },
		"nothing to boot": func(s *machine.Spec) { s.Disk, s.Kernel = "", "" },
		"no seed":         func(s *machine.Spec) { s.Seed += ".missing" },
		"no directory":    func(s *machine.Spec) { s.Dir += "/missing" },
		"no CPU":          func(s *machine.Spec) { s.Shape.CPUs = 0 },
		"no memory":       func(s *machine.Spec) { s.Shape.MemoryMiB = 0 },
		"no firmware":     func(s *machine.Spec) { s.Shape.Firmware = "" },
		"relative path":   func(s *machine.Spec) { s.Disk = "disk.qcow2" },
		"not an image":    func(s *machine.Spec) { s.Disk = s.Seed },
		"memory in use":   func(s *machine.Spec) { s.RAMFile = s.Seed },
		"odd MAC":         func(s *machine.Spec) { s.NICAtBoot.MAC = "odd" },
	} {
		t.Run(name, func(t *testing.T) {
			spec := h.Spec(t, t.TempDir())
			wire, nic := newWire(t, "52:54:00:00:00:01")
			spec.NICAtBoot = &nic
			change(&spec)
			m, err := h.Hypervisor.Start(ctx, spec)
			if err == nil {
				m.Close()
			}
			refused(t, "start", err)
			wire.expectEnd(ctx) // ownership has passed
		})
	}
	spec := h.Spec(t, t.TempDir())
	spec.RAMFile = filepath.Join(spec.Dir, "ram")
	if m, err := h.Hypervisor.Restore(ctx, spec, spec.Disk); err == nil {
		t.Error("restored from nothing")
		m.Close()
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("user went home")
	cancel(reason)
	if m, err := h.Hypervisor.Start(cancelled, spec); !errors.Is(err, reason) {
		t.Errorf("start with an ended context: %v", err)
		if err == nil {
			m.Close()
		}
	}
	if _, err := os.Stat(spec.RAMFile); err == nil {
		t.Error("a failed start left its memory file")
	}
	a, err := h.Hypervisor.Fingerprint(ctx, spec.Shape)
	if err != nil {
		t.Fatal(err)
	}
	shape := spec.Shape
	shape.CPUs++
	b, err := h.Hypervisor.Fingerprint(ctx, shape)
	if err != nil || a == b || a == "" {
		t.Errorf("fingerprints %q and %q, %v", a, b, err)
	}
}
