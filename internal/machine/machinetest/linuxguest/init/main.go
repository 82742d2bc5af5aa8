// Command init is the only program of the guest that the conformance suite boots
// on a real hypervisor: it loads its modules and answers requests on the helper's
// port. See talk.Answer.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"goldsmith/internal/machine/cloudkernel/userland"
	"goldsmith/internal/machine/machinetest/talk"
)

// helperPort is the name of the virtio-serial port.
const helperPort = "org.goldsmith.helper.0"

func main() {
	err := run()
	fmt.Println("init:", err)
	userland.PowerOff()
}

func run() error {
	kernel, err := userland.Start()
	if err != nil {
		return err
	}
	port, err := kernel.OpenPort(helperPort)
	if err != nil {
		return fmt.Errorf("helper port: %w", err)
	}
	go powerButton()
	g := guest{boot: rand.Text(), kernel: kernel}
	fmt.Println("init: ready")
	return talk.Answer(port, g.do)
}

// diskSize is the size of the disk in bytes.
func diskSize() (int64, error) {
	sectors, err := os.ReadFile("/sys/block/vda/size")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
	return n * 512, err
}

// powerButton powers off when the button is pressed.
func powerButton() {
	inputs, _ := filepath.Glob("/dev/input/event*")
	for _, input := range inputs {
		go func() {
			f, err := os.Open(input)
			if err != nil {
				fmt.Println("init:", err)
				return
			}
			// struct input_event: two longs of time, then type, code and value.
			event := make([]byte, 24)
			for {
				if _, err := f.Read(event); err != nil {
					return
				}
				const key, power = 1, 116
				if binary.NativeEndian.Uint16(event[16:]) == key && binary.NativeEndian.Uint16(event[18:]) == power {
					userland.PowerOff()
				}
			}
		}()
	}
}

// guest is what requests work on.
type guest struct {
	boot   string
	kernel userland.Kernel
}

func (g guest) do(request string, args []string) (string, error) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch request {
	case talk.Boot:
		return g.boot, nil
	case talk.PowerOff:
		userland.PowerOff()
		return "", nil
	case talk.WriteAt, talk.ReadAt:
		return block(request == talk.WriteAt, arg(0), arg(1))
	case talk.DiskSize:
		size, err := diskSize()
		return strconv.FormatInt(size, 10), err
	case talk.AwaitSize:
		want, err := strconv.ParseInt(arg(0), 10, 64)
		if err != nil {
			return "", err
		}
		var size int64
		var unread error
		err = g.kernel.Await(func() bool {
			size, unread = diskSize()
			return size >= want || unread != nil
		})
		return strconv.FormatInt(size, 10), errors.Join(err, unread)
	case talk.Disks:
		disks, err := filepath.Glob("/sys/block/vd*")
		return strconv.Itoa(len(disks)), err
	case talk.AwaitNIC:
		err := g.kernel.Await(func() bool { return card() != nil })
		if err != nil {
			return "", err
		}
		return card().HardwareAddr.String(), nil
	case talk.NoNIC:
		return "", g.kernel.Await(func() bool { return card() == nil })
	case talk.SendNIC:
		return "", send(arg(0))
	}
	return "", fmt.Errorf("unknown request %q", request)
}

// block reads or writes a word in the block at offset, past every cache of the
// guest.
func block(write bool, offset, word string) (string, error) {
	at, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return "", err
	}
	fd, err := unix.Open("/dev/vda", unix.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	// Direct transfers want aligned memory, which mapped pages are.
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(page)
	if write {
		copy(page, word)
		_, err = unix.Pwrite(fd, page, at)
		return "", err
	}
	if _, err := unix.Pread(fd, page, at); err != nil {
		return "", err
	}
	return strings.TrimRight(string(page), "\x00"), nil
}

// card is the network card, nil for none.
func card() *net.Interface {
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6 {
			return &i
		}
	}
	return nil
}

// send brings the card up and sends one frame.
func send(word string) error {
	c := card()
	if c == nil {
		return errors.New("no network card")
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(c.Name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(request))); errno != 0 {
		return errno
	}
	frame := append([]byte{255, 255, 255, 255, 255, 255}, c.HardwareAddr...)
	frame = binary.BigEndian.AppendUint16(frame, talk.FrameType)
	frame = append(frame, word...)
	frame = append(frame, make([]byte, max(0, 60-len(frame)))...)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: c.Index, Halen: 6})
}
