package bridge

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"goldsmith/internal/network/frame"
)

// tunDevice makes TAP devices.
const tunDevice = "/dev/net/tun"

// maxName is the longest name of a network interface.
const maxName = unix.IFNAMSIZ - 1

// Check says why this process cannot put machines on a bridge of the host, and what
// mends it; nil when it can.
func Check(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("%q is not the name of a network interface", name)
	}
	ok, err := isBridge(name)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the host has no bridge %s; make it: ip link add %s type bridge && ip link set %s up", name, name, name)
	}
	if !mayChangeNetworks() {
		return errNoCapability(name)
	}
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("bridge %s needs %s, which cannot be opened (load it: modprobe tun): %w", name, tunDevice, err)
	}
	return f.Close()
}

func errNoCapability(name string) error {
	return fmt.Errorf("bridge %s needs the capability CAP_NET_ADMIN, which this process lacks; give it to the program: setcap cap_net_admin+ep PATH/goldsmith, or run it as root", name)
}

// mayChangeNetworks reports whether the process has CAP_NET_ADMIN.
func mayChangeNetworks() bool {
	var data [2]unix.CapUserData // version 3 has 64 bits
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// isBridge reports whether the host has a bridge called name.
func isBridge(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	return unix.ByteSliceToString(info.Driver[:]) == "bridge", nil
}

// OpenTAP makes a TAP device with the hardware address mac on a bridge, apart from
// others that are apart. The frames of the bridge are read from the file, one at a
// time, and written to it. The device is gone when the file is closed. The error is
// Check's, or the kernel's.
func OpenTAP(bridge string, mac frame.MAC, apart bool) (*os.File, error) {
	if err := Check(bridge); err != nil {
		return nil, err
	}
	master, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", bridge, err)
	}
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	// Only a descriptor that is a device already can be waited for.
	name, err := become(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make a TAP device for bridge %s: %w", bridge, err)
	}
	f := os.NewFile(uintptr(fd), tunDevice)
	if err := enslave(name, mac, master, apart); err != nil {
		return nil, errors.Join(fmt.Errorf("put TAP device %s on bridge %s: %w", name, bridge, err), f.Close())
	}
	return f, nil
}

// become makes a descriptor of tunDevice one of a TAP device, whose name the kernel
// picks.
func become(fd int) (string, error) {
	ifr, err := unix.NewIfreq("goldsmith%d")
	if err != nil {
		return "", err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// enslave puts a device on a bridge and brings it up.
func enslave(name string, mac frame.MAC, master *net.Interface, apart bool) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	s, err := openNetlink()
	if err != nil {
		return err
	}
	defer s.close()
	// A bridge takes on the smallest MTU of its ports.
	err = s.change(unix.RTM_NEWLINK, unix.AF_UNSPEC, device.Index, 0,
		attribute(unix.IFLA_ADDRESS, mac[:]), attribute(unix.IFLA_MTU, word(uint32(master.MTU))), attribute(unix.IFLA_MASTER, word(uint32(master.Index))))
	if err != nil {
		return err
	}
	if apart {
		err := s.change(unix.RTM_SETLINK, unix.AF_BRIDGE, device.Index, 0,
			attribute(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, attribute(unix.IFLA_BRPORT_ISOLATED, []byte{1})))
		if err != nil {
			return fmt.Errorf("isolate it from others (Linux 4.18 can): %w", err)
		}
	}
	return s.change(unix.RTM_NEWLINK, unix.AF_UNSPEC, device.Index, unix.IFF_UP)
}

// writeOnce writes a frame to a device without waiting.
func writeOnce(fd int, b []byte) error {
	_, err := unix.Write(fd, b)
	return err
}
