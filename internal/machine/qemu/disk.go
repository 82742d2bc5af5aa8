package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"goldsmith/internal/arm"
)

// blockNode is what the monitor tells of a node of the disk.
type blockNode struct {
	Name  string `json:"node-name"`
	Image struct {
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"full-backing-filename"`
	} `json:"image"`
}

// Seal freezes the disk: the machine writes to overlay from now on.
func (m *Machine) Seal(ctx context.Context, overlay string) error {
	const op = "sealing the disk"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	if m.disk == "" {
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: the machine has none", op)
	}
	if _, err := os.Stat(overlay); err != nil {
		return m.spec.Errorf(arm.CodeMachine, "%s: the overlay must exist: %w", op, err)
	}
	next := m.layer + 1
	if err := m.addOverlay(ctx, next, overlay); err != nil {
		return m.failed(op, err)
	}
	if err := m.switchOverlay(ctx, next); err != nil {
		err = m.failed(op, err)
		undo, cancel := undoing(ctx)
		defer cancel()
		// The switch may have happened although its answer was not heard.
		if top, topErr := m.top(undo); topErr != nil || top == nodeName(next) {
			m.disk, m.layer = overlay, next
			return err
		}
		m.removeOverlay(undo, next)
		return err
	}
	m.disk, m.layer = overlay, next
	return nil
}

// addOverlay opens overlay as the n-th node, and makes sure that it stands on
// the current disk.
func (m *Machine) addOverlay(ctx context.Context, n int, overlay string) (err error) {
	if err := m.execute(ctx, "blockdev-add", fileNode(fileName(n), overlay), nil); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			undo, cancel := undoing(ctx)
			defer cancel()
			m.removeOverlay(undo, n)
		}
	}()
	image := imageNode(n)
	image["backing"] = nil // blockdev-snapshot gives it the running one
	if err := m.execute(ctx, "blockdev-add", image, nil); err != nil {
		return err
	}
	current, err := m.node(ctx, nodeName(m.layer))
	if err != nil {
		return err
	}
	added, err := m.node(ctx, nodeName(n))
	if err != nil {
		return err
	}
	if added.Image.VirtualSize != current.Image.VirtualSize {
		return m.spec.Errorf(arm.CodeMachine, "overlay %s has %d bytes and its disk %s %d: both must be equal",
			overlay, added.Image.VirtualSize, m.disk, current.Image.VirtualSize)
	}
	if !sameFile(added.Image.Backing, m.disk) {
		return m.spec.Errorf(arm.CodeMachine, "overlay %s stands on %q instead of the current disk %s", overlay, added.Image.Backing, m.disk)
	}
	return nil
}

// switchOverlay lets the machine write to the n-th node. The machine stands still
// for it and goes on whatever happens.
func (m *Machine) switchOverlay(ctx context.Context, n int) (err error) {
	defer func() {
		undo, cancel := undoing(ctx)
		defer cancel()
		if contErr := m.execute(undo, "cont", nil, nil); contErr != nil && err == nil {
			err = contErr
		}
	}()
	if err := m.execute(ctx, "stop", nil, nil); err != nil {
		return err
	}
	return m.execute(ctx, "blockdev-snapshot", map[string]any{"node": nodeName(m.layer), "overlay": nodeName(n)}, nil)
}

// removeOverlay closes what of the n-th node is open. Nodes that were not added
// are not there to remove.
func (m *Machine) removeOverlay(ctx context.Context, n int) {
	_ = m.execute(ctx, "blockdev-del", map[string]any{"node-name": nodeName(n)}, nil)
	_ = m.execute(ctx, "blockdev-del", map[string]any{"node-name": fileName(n)}, nil)
}

// errNoNode says that a block node does not exist.
var errNoNode = errors.New("QEMU has no such block node")

// node asks for one node of the disk.
func (m *Machine) node(ctx context.Context, name string) (blockNode, error) {
	var nodes []blockNode
	if err := m.execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return blockNode{}, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return blockNode{}, fmt.Errorf("%s: %w", name, errNoNode)
}

// top is the name of the node that the disk device writes to.
func (m *Machine) top(ctx context.Context) (string, error) {
	var devices []struct {
		QDev     string `json:"qdev"`
		Inserted struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	if err := m.execute(ctx, "query-block", nil, &devices); err != nil {
		return "", err
	}
	for _, d := range devices {
		if d.QDev == "/machine/peripheral/"+diskDevice+"/virtio-backend" {
			return d.Inserted.Node, nil
		}
	}
	return "", fmt.Errorf("QEMU has no device %s", diskDevice)
}

// sameFile reports whether both paths lead to one file.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// Resize grows the disk to size bytes. The guest is told at once.
func (m *Machine) Resize(ctx context.Context, size int64) error {
	const op = "resizing the disk"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	if m.disk == "" {
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: the machine has none", op)
	}
	current, err := m.node(ctx, nodeName(m.layer))
	if err != nil {
		return m.failed(op, err)
	}
	if size < current.Image.VirtualSize || size%512 != 0 {
		return m.spec.Errorf(arm.CodeMachine, "%s from %d to %d bytes is not possible: it can only grow, by sectors of 512 bytes",
			op, current.Image.VirtualSize, size)
	}
	return m.failed(op, m.execute(ctx, "block_resize", map[string]any{"node-name": nodeName(m.layer), "size": size}, nil))
}
