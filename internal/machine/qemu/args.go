package qemu

import (
	"encoding/json"
	"fmt"
	"strings"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
)

// The files that QEMU inherits, in the order of their descriptors from 3 on.
const (
	monitorFD = 3 + iota // a socket
	helperFD             // a socket
	consoleFD            // the writing end of a pipe
	nicFD                // a socket; only with a NIC at boot
)

// HelperPort is the name of the virtio-serial port of the guest helper, below
// /dev/virtio-ports in a Linux guest.
const HelperPort = "org.goldsmith.helper.0"

// Ids of things in QEMU that commands name later.
const (
	nicDevice  = "nic0"
	netdev     = "net0"
	nicPort    = "rp0"
	seedDevice = "seed0"
	seedNode   = "seed"
	seedPort   = "rp1"
	diskDevice = "disk0"
)

// launch is everything that a command line says.
type launch struct {
	spec         machine.Spec
	installation Installation
	accelerator  accel.Result
	restore      bool // map the memory privately and wait for a saved state
}

// args is QEMU's command line without the program. Each device has a fixed
// address: a saved state names devices by their PCI paths. Paths are only ever
// within JSON, where no character of theirs has a meaning.
func (l launch) args() []string {
	s := l.spec
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none",
		"-name", "guest=" + strings.ReplaceAll(s.Name, ",", ",,"),
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-S", // runs only when the monitor listens
		"-accel", l.acceleration(),
		"-cpu", l.accelerator.CPUModel,
		"-smp", fmt.Sprint(s.Shape.CPUs),
		"-m", fmt.Sprintf("%dM", s.Shape.MemoryMiB),
		"-object", l.memory(),
		"-machine", l.machine(),
		"-rtc", "base=utc,clock=host",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD),
		"-mon", "chardev=monitor,mode=control",
		// Appending, because QEMU truncates anything else, which no pipe can.
		"-add-fd", fmt.Sprintf("set=1,fd=%d", consoleFD),
		"-chardev", "file,id=console,path=/dev/fdset/1,append=on",
		"-device", "isa-serial,chardev=console",
	}
	if s.Shape.Firmware == machine.UEFI {
		args = append(args,
			"-blockdev", object(map[string]any{"driver": "file", "node-name": "pf0", "filename": l.installation.Code, "read-only": true}),
			"-blockdev", object(map[string]any{"driver": "file", "node-name": "pf1", "filename": s.Vars}),
		)
	}
	if s.Kernel != "" {
		args = append(args, "-kernel", s.Kernel, "-append", s.Cmdline)
		if s.Initrd != "" {
			args = append(args, "-initrd", s.Initrd)
		}
	}
	args = append(args,
		"-device", "pcie-root-port,id="+nicPort+",bus=pcie.0,addr=0x6,chassis=1,slot=1",
		"-device", "pcie-root-port,id="+seedPort+",bus=pcie.0,addr=0x9,chassis=2,slot=2",
		"-device", "virtio-rng-pci,bus=pcie.0,addr=0x7",
		"-device", "virtio-serial-pci,id=serial0,bus=pcie.0,addr=0x8,max_ports=2",
		"-chardev", fmt.Sprintf("socket,id=helper,fd=%d", helperFD),
		"-device", "virtserialport,bus=serial0.0,nr=1,chardev=helper,name="+HelperPort,
	)
	if s.Disk != "" {
		args = append(args,
			"-blockdev", object(fileNode(fileName(0), s.Disk)),
			"-blockdev", object(imageNode(0)),
			// Stop at any write error: a guest must not work around a broken disk.
			"-device", "virtio-blk-pci,id="+diskDevice+",drive="+nodeName(0)+",bus=pcie.0,addr=0x4,bootindex=1,werror=stop,rerror=stop",
		)
	}
	if s.Seed != "" {
		args = append(args,
			"-blockdev", object(map[string]any{
				"driver": "raw", "node-name": seedNode, "read-only": true,
				"file": map[string]any{"driver": "file", "filename": s.Seed, "read-only": true},
			}),
			"-device", "virtio-blk-pci,id="+seedDevice+",drive="+seedNode+",bus="+seedPort,
		)
	}
	if s.NICAtBoot != nil {
		args = append(args,
			"-netdev", fmt.Sprintf("socket,id=%s,fd=%d", netdev, nicFD),
			"-device", "virtio-net-pci,id="+nicDevice+",netdev="+netdev+",mac="+s.NICAtBoot.MAC+",bus="+nicPort+",romfile=",
		)
	}
	if l.restore {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// acceleration is the value of -accel. QEMU's own limit for translated code is
// 1 GiB, which boots no faster than 128 MiB.
func (l launch) acceleration() string {
	if l.accelerator.Accelerator == accel.KVM {
		return "kvm"
	}
	return "tcg,thread=multi,tb-size=128"
}

// machine is the value of -machine. Without graphics the firmware talks to the
// serial console.
func (l launch) machine() string {
	m := "q35,memory-backend=ram,vmport=off,graphics=off"
	if l.spec.Shape.Firmware == machine.UEFI {
		m += ",pflash0=pf0,pflash1=pf1"
	}
	return m
}

// memory is the object behind the guest's memory.
func (l launch) memory() string {
	size := int64(l.spec.Shape.MemoryMiB) << 20
	if l.spec.RAMFile == "" {
		return object(map[string]any{"qom-type": "memory-backend-ram", "id": "ram", "size": size})
	}
	return object(map[string]any{
		"qom-type": "memory-backend-file", "id": "ram", "size": size,
		"mem-path": l.spec.RAMFile, "share": !l.restore,
	})
}

// nodeName and fileName name the block nodes of the n-th overlay since the start:
// the image and the file below it.
func nodeName(n int) string { return fmt.Sprintf("d%d", n) }
func fileName(n int) string { return fmt.Sprintf("d%df", n) }

// fileNode is the file of an overlay. Flushes of the guest do not reach the
// host's disk: a run that the host does not survive is run again.
func fileNode(name, path string) map[string]any {
	return map[string]any{
		"driver": "file", "node-name": name, "filename": path, "discard": "unmap",
		"cache": map[string]any{"direct": false, "no-flush": true},
	}
}

// imageNode is the n-th overlay as an image.
func imageNode(n int) map[string]any {
	return map[string]any{
		"driver": "qcow2", "node-name": nodeName(n), "file": fileName(n), "discard": "unmap",
		"cache": map[string]any{"direct": false, "no-flush": true},
	}
}

// object encodes v, which consists of strings, numbers and booleans.
func object(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
