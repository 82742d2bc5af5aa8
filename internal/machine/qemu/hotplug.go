package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/qmp"
)

// unplugRetry is after how long a guest is asked again to let go of a device: one
// that has not brought its hot-plug driver up yet misses the request.
const unplugRetry = 2 * time.Second

// nicFile is the name under which QEMU keeps the NIC's socket until it is used.
const nicFile = "nic"

// PlugNIC hot-plugs the machine's NIC.
func (m *Machine) PlugNIC(ctx context.Context, nic machine.NIC) error {
	defer nic.Conn.Close() // QEMU has a copy
	const op = "plugging the network card"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	if m.nic {
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: there is one already", op)
	}
	if _, err := net.ParseMAC(nic.MAC); err != nil {
		return m.spec.Errorf(arm.CodeMachine, "%s: %w", op, err)
	}
	if err := m.failed(op, m.plugNIC(ctx, nic)); err != nil {
		return err
	}
	m.nic = true
	return nil
}

func (m *Machine) plugNIC(ctx context.Context, nic machine.NIC) (err error) {
	if err := m.client.ExecuteFile(ctx, "getfd", map[string]any{"fdname": nicFile}, nil, nic.Conn); err != nil {
		return err
	}
	// From here on a failure may leave either behind; not to find one is fine.
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := undoing(ctx)
		defer cancel()
		_ = m.execute(ctx, "netdev_del", map[string]any{"id": netdev}, nil)
		_ = m.execute(ctx, "closefd", map[string]any{"fdname": nicFile}, nil)
	}()
	if err := m.execute(ctx, "netdev_add", map[string]any{"type": "socket", "id": netdev, "fd": nicFile}, nil); err != nil {
		return err
	}
	return m.execute(ctx, "device_add", map[string]any{
		"driver": "virtio-net-pci", "id": nicDevice, "netdev": netdev, "mac": nic.MAC, "bus": nicPort, "romfile": "",
	}, nil)
}

// UnplugNIC removes the NIC. It asks the guest until that lets go of it or ctx
// ends.
func (m *Machine) UnplugNIC(ctx context.Context) error {
	const op = "unplugging the network card"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	if !m.nic {
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: there is none", op)
	}
	if err := m.unplug(ctx, nicDevice); err != nil {
		return m.failed(op, err)
	}
	if err := m.execute(ctx, "netdev_del", map[string]any{"id": netdev}, nil); err != nil && !qmp.IsClass(err, "DeviceNotFound") {
		return m.failed(op, err)
	}
	m.nic = false
	return nil
}

// UnplugSeed removes the seed disk. It asks the guest until that lets go of it or
// ctx ends.
func (m *Machine) UnplugSeed(ctx context.Context) error {
	const op = "unplugging the seed disk"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	if !m.seed {
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: there is none", op)
	}
	if err := m.unplug(ctx, seedDevice); err != nil {
		return m.failed(op, err)
	}
	if _, err := m.node(ctx, seedNode); !errors.Is(err, errNoNode) {
		if err := m.execute(ctx, "blockdev-del", map[string]any{"node-name": seedNode}, nil); err != nil {
			return m.failed(op, err)
		}
	}
	m.seed = false
	return nil
}

// unplug asks the guest to let go of device until it has.
func (m *Machine) unplug(ctx context.Context, device string) error {
	events := m.client.Subscribe("DEVICE_DELETED")
	defer events.Close()
	type deleted struct {
		Device string `json:"device"`
	}
	for {
		err := m.execute(ctx, "device_del", map[string]any{"id": device}, nil)
		if qmp.IsClass(err, "DeviceNotFound") {
			return nil // gone since an earlier request
		}
		// A refusal says that the earlier request is still with the guest.
		if err != nil && !qmp.IsClass(err, "GenericError") {
			return err
		}
		limit, cancel := context.WithTimeout(ctx, unplugRetry)
		_, waitErr := qmp.Await(limit, events, func(d deleted) bool { return d.Device == device })
		cancel()
		switch {
		case waitErr == nil:
			return nil
		case ctx.Err() != nil:
			if err != nil {
				return fmt.Errorf("the guest does not let go of it: %w (%w)", context.Cause(ctx), err)
			}
			return fmt.Errorf("the guest does not let go of it: %w", context.Cause(ctx))
		case !errors.Is(waitErr, context.DeadlineExceeded):
			return waitErr
		}
	}
}
