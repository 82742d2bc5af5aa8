package machinetest

import (
	"path/filepath"
	"testing"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest/talk"
)

// testCheckpoint saves a running machine with its card plugged, twice over, and
// continues it from both states.
func testCheckpoint(t *testing.T, h Harness) {
	ctx := limit(t)
	dir := t.TempDir()
	spec := h.Spec(t, dir)
	const mac = "52:54:00:00:00:01"
	r, net, boot, size := plugged(t, ctx, h, spec, mac)
	first := filepath.Join(dir, "first.qcow2")
	h.Overlay(t, first, spec.Disk, size)
	state := filepath.Join(dir, "state")
	refused(t, "checkpoint with a seed", r.Checkpoint(ctx, first, state))
	r.must(r.UnplugSeed(ctx))
	r.ask(talk.AwaitNIC)
	r.ask(talk.WriteAt, 0, "before")
	r.must(r.Checkpoint(ctx, first, state))
	refused(t, "checkpoint onto nothing", r.Checkpoint(ctx, filepath.Join(dir, "missing.qcow2"), state+"x"))

	// The machine goes on, on its network.
	if got := r.ask(talk.Boot); got != boot {
		t.Error("the machine booted during its checkpoint")
	}
	r.ask(talk.WriteAt, 0, "after")
	r.ask(talk.SendNIC, "on")
	net.expect(ctx, mac, "on")
	r.must(r.Close())
	sealed := digests(t, []string{spec.Disk, first, state})

	// restored continues the state over disk.
	restored := func(name, disk, state string) (*rig, *wire) {
		clone := spec
		clone.Seed, clone.Name, clone.Disk = "", name, filepath.Join(dir, name+".qcow2")
		h.Overlay(t, clone.Disk, disk, size)
		net, nic := newWire(t, mac)
		clone.NICAtBoot = &nic
		m, err := h.Hypervisor.Restore(ctx, clone, state)
		return newRig(t, ctx, clone, m, err), net
	}
	a, wireA := restored("a", spec.Disk, state)
	if got := a.ask(talk.Boot); got != boot {
		t.Error("the restored machine booted")
	}
	if got := a.ask(talk.ReadAt, 0); got != "before" {
		t.Errorf("the restored machine's disk has %q", got)
	}
	a.ask(talk.SendNIC, "restored")
	wireA.expect(ctx, mac, "restored")
	a.ask(talk.WriteAt, 0, "again")
	second, state2 := filepath.Join(dir, "second.qcow2"), filepath.Join(dir, "state2")
	h.Overlay(t, second, a.spec.Disk, size)
	a.must(a.Checkpoint(ctx, second, state2))
	a.must(a.Close())
	b, wireB := restored("b", a.spec.Disk, state2)
	if got := b.ask(talk.ReadAt, 0); got != "again" {
		t.Errorf("the machine restored from a restored one has %q", got)
	}
	b.ask(talk.SendNIC, "twice")
	wireB.expect(ctx, mac, "twice")
	b.must(b.Close())
	for i, d := range digests(t, []string{spec.Disk, first, state}) {
		if d != sealed[i] {
			t.Errorf("restored machines changed what they were restored from (%d)", i)
		}
	}
	if m, err := h.Hypervisor.Restore(ctx, func() machine.Spec {
		s := spec
		s.Seed, s.NICAtBoot, s.Name = "", nil, "bare"
		return s
	}(), state); err == nil {
		t.Error("a state with a card was restored without one")
		m.Close()
	}
}

// testSavePlugged saves a booted machine with its card, and continues it on two
// wires.
func testSavePlugged(t *testing.T, h Harness) {
	ctx := limit(t)
	dir := t.TempDir()
	spec := h.Spec(t, dir)
	spec.RAMFile = filepath.Join(dir, "ram")
	const mac = "52:54:00:00:00:01"
	r, _, boot, size := plugged(t, ctx, h, spec, mac)
	r.must(r.UnplugSeed(ctx))
	r.ask(talk.AwaitNIC)
	state := filepath.Join(dir, "state")
	r.must(r.Save(ctx, state))

	clone := spec
	clone.Seed, clone.NICAtBoot = "", nil
	for i, name := range []string{"one", "two"} {
		clone.Name, clone.Disk = name, filepath.Join(dir, name+".qcow2")
		h.Overlay(t, clone.Disk, spec.Disk, size)
		wire, nic := newWire(t, mac)
		clone.NICAtBoot = &nic
		m, err := h.Hypervisor.Restore(ctx, clone, state)
		c := newRig(t, ctx, clone, m, err)
		if got := c.ask(talk.Boot); got != boot {
			t.Errorf("%s booted instead of going on", name)
		}
		c.ask(talk.SendNIC, name)
		wire.expect(ctx, mac, name)
		if i == 0 {
			c.must(c.UnplugNIC(ctx))
			c.ask(talk.NoNIC)
		}
		c.must(c.Close())
	}
	clone.NICAtBoot = nil
	if m, err := h.Hypervisor.Restore(ctx, clone, state); err == nil {
		t.Error("a state with a card was restored without one")
		m.Close()
	}
}
