package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/machine"
	"goldsmith/internal/provision"
)

// BootOptions say how to boot an image to look at it.
type BootOptions struct {
	Command        string // run with the build user's shell; "" leaves the machine running until ctx ends
	Stdout, Stderr io.Writer
	Size           string   // VM size; "" for the default of the image's generation
	Console        *os.File // takes the serial console; nil for none
	Member         *Member  // what it is of a virtual network; nil for none
}

// Boot boots a stored image in a fresh machine that is thrown away afterwards,
// runs the command in it, and returns the command's exit status. Without a
// command it waits until the guest powers off or ctx ends.
func (e *Engine) Boot(ctx context.Context, name string, c distribute.Content, o BootOptions, sink event.Sink) (exit int, err error) {
	size, _, err := e.cfg.Host.Size(o.Size, c.Generation)
	if err != nil {
		return 0, err
	}
	if err := e.baseDisk(ctx, c.Image, nil); err != nil {
		return 0, err
	}
	// The directory stands beside those of layers, so that the overlay finds the
	// base disk; the process's own death leaves it to garbage collection.
	scratch := layer.NewID()
	if err := e.files.Create(scratch); err != nil {
		return 0, err
	}
	work := filepath.Join(e.dir, e.layerDir(scratch))
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	disk := e.files.Path(scratch, layer.DiskFile)
	if err := qcow2.CreateOverlay(disk, c.DiskBytes, qcow2.Backing{Path: e.baseRelative(c.Image), Format: "raw"}); err != nil {
		return 0, fmt.Errorf("create the boot overlay: %w", err)
	}
	shape := machine.Shape{CPUs: size.VCPUs, MemoryMiB: size.MemoryMiB, Firmware: machine.UEFI}
	if c.Generation == 1 {
		shape.Firmware = machine.BIOS
	}
	l := launcher{engine: e, sink: sink, name: "goldsmith-boot", origin: name, shape: shape, diskBytes: c.DiskBytes, work: work,
		console: filepath.Join(work, "console.log"), terminal: o.Console}
	guest := &vm{}
	defer func() { err = errors.Join(err, guest.close()) }()
	start := bootSpec{disk: disk, vars: filepath.Join(work, layer.VarsFile)}
	if o.Member != nil {
		start.open = l.openMember(o.Member.Ports)
	}
	if err := l.boot(ctx, guest, start); err != nil {
		return 0, err
	}
	id, err := provision.NewIdentity()
	if err != nil {
		return 0, err
	}
	if err := guest.identify(ctx, id, e.cfg.Guest); err != nil {
		return 0, err
	}
	if err := guest.connect(ctx, id); err != nil {
		return 0, err
	}
	if o.Member != nil {
		leave, err := e.join(ctx, guest, *o.Member)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		l.info("builds on %s reach the machine at %v", o.Member.VNet, o.Member.At)
	}
	if o.Command == "" {
		return 0, guest.machine.Wait(ctx)
	}
	err = guest.watch(ctx, func(ctx context.Context) (err error) {
		exit, err = guest.session.Run(ctx, o.Command, o.Stdout, o.Stderr)
		return err
	})
	return exit, err
}
