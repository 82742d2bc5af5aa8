// Command init is the only program of a proxy VM: it loads the kernel's modules,
// waits for an order on the helper's port, sets the network card up as told,
// forwards packets and connections, and answers probes. There is nothing to log
// in to and nothing else to configure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"goldsmith/internal/proxyvm/appliance"
	"goldsmith/internal/proxyvm/order"
)

func main() {
	err := run()
	fmt.Println("proxy:", err)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range []struct{ fs, dir string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"proc", "/proc"}} {
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	events, err := listen()
	if err != nil {
		return fmt.Errorf("kernel events: %w", err)
	}
	modules, err := filepath.Glob("/modules/*.ko") // numbered in the order of their needs
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	port, err := openPort(events)
	if err != nil {
		return fmt.Errorf("helper port: %w", err)
	}
	if err := order.Write(port, order.Report{}); err != nil {
		return err
	}
	fmt.Println("proxy: waiting for an order")
	lines := order.NewLines(port)
	for {
		line, err := lines.Next()
		if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		var o order.Order
		if json.Unmarshal(line, &o) != nil || o.Nonce == "" {
			continue // the rest of a line from before the machine was saved
		}
		l, err := obey(o, events)
		report := order.Report{Nonce: o.Nonce}
		if err != nil {
			report.Error = err.Error()
		}
		if werr := order.Write(port, report); werr != nil || err != nil {
			return errors.Join(err, werr)
		}
		return serve(l, o)
	}
}

// obey carries an order out, up to the listener.
func obey(o order.Order, events int) (net.Listener, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := stir(o.Entropy); err != nil {
		return nil, err
	}
	var card *net.Interface
	if err := await(events, func() bool { card = find(o.MAC); return card != nil }); err != nil {
		return nil, err
	}
	for _, s := range []struct{ file, value string }{
		{"ipv4/ip_forward", "1"}, {"ipv6/conf/all/disable_ipv6", "1"},
		// The build VM is in the same subnet as the router, and is not to be told so.
		{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/" + card.Name + "/send_redirects", "0"},
	} {
		if err := os.WriteFile("/proc/sys/net/"+s.file, []byte(s.value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := configure(card.Name, o.Address, o.Router); err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp4", &net.TCPAddr{Port: int(o.Listen)})
}

func serve(l net.Listener, o order.Order) error {
	var d net.Dialer
	return appliance.Forward(context.Background(), l, o.Probe, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp4", o.Target.String())
	})
}

// find is the card with a hardware address, nil while there is none.
func find(mac string) *net.Interface {
	all, _ := net.Interfaces()
	for _, i := range all {
		if strings.EqualFold(i.HardwareAddr.String(), mac) {
			return &i
		}
	}
	return nil
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// listen opens the kernel's event socket, so that nothing needs polling.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
}

// await looks at each kernel event until ready says so.
func await(events int, ready func() bool) error {
	buffer := make([]byte, 64<<10)
	for !ready() {
		if _, err := unix.Read(events, buffer); err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// openPort waits for the helper's port and opens it.
func openPort(events int) (*os.File, error) {
	var device string
	err := await(events, func() bool {
		ports, _ := filepath.Glob("/sys/class/virtio-ports/*")
		for _, p := range ports {
			if name, err := os.ReadFile(p + "/name"); err == nil && strings.TrimSpace(string(name)) == order.Port {
				device = "/dev/" + filepath.Base(p)
			}
		}
		return device != ""
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(device, os.O_RDWR, 0)
}

// configure gives a card its address and the machine its way out.
func configure(name string, addr netip.Prefix, router netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	mask := net.CIDRMask(addr.Bits(), 32)
	for _, s := range []struct {
		request uint
		value   []byte
	}{{unix.SIOCSIFADDR, addr.Addr().AsSlice()}, {unix.SIOCSIFNETMASK, mask}} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(s.value); err != nil {
			return err
		}
		if err := ioctl(fd, s.request, r); err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
	}
	up, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := ioctl(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return defaultRoute(fd, router)
}
