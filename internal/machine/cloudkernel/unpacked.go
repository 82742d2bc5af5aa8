package cloudkernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/pierrec/lz4/v4"
)

// maxKernel bounds an unpacked kernel in bytes.
const maxKernel = 256 << 20

// Unpacked returns the kernel of vmlinuz without its compression, which an emulated
// machine takes half a second to undo. It is kept beside vmlinuz. A kernel that is
// not compressed by LZ4, that QEMU cannot start without its loader, or that cannot be
// kept there, is returned as it is.
func Unpacked(vmlinuz string) (kernel string, err error) {
	unpacked := filepath.Join(filepath.Dir(vmlinuz), "vmlinux")
	if _, err := os.Stat(unpacked); err == nil {
		return unpacked, nil
	}
	image, err := os.ReadFile(vmlinuz)
	if err != nil {
		return "", err
	}
	payload, ok := payloadOf(image)
	if !ok {
		return vmlinuz, nil
	}
	content, err := io.ReadAll(io.LimitReader(lz4.NewReader(bytes.NewReader(payload)), maxKernel))
	if err != nil || len(content) == maxKernel || !startsAlone(content) {
		return vmlinuz, nil
	}
	if renameio.WriteFile(unpacked, content, 0o644) != nil {
		return vmlinuz, nil
	}
	return unpacked, nil
}

// payloadOf is the compressed kernel in a bzImage, without its size, which is not
// part of the compressed form ("The Linux/x86 Boot Protocol", the real-mode kernel
// header).
func payloadOf(image []byte) ([]byte, bool) {
	const sectors, magic, version, offset, length, end = 0x1f1, 0x202, 0x206, 0x248, 0x24c, 0x250
	if len(image) < end || string(image[magic:magic+4]) != "HdrS" || binary.LittleEndian.Uint16(image[version:]) < 0x208 {
		return nil, false
	}
	setup := int64(image[sectors])
	if setup == 0 {
		setup = 4
	}
	from := (setup+1)*512 + int64(binary.LittleEndian.Uint32(image[offset:]))
	to := from + int64(binary.LittleEndian.Uint32(image[length:])) - 4
	if to < from || to > int64(len(image)) {
		return nil, false
	}
	return image[from:to], true
}

// startsAlone reports whether a kernel says where it is entered without firmware
// and loader: the note for PVH guests (XEN_ELFNOTE_PHYS32_ENTRY).
func startsAlone(kernel []byte) bool {
	const entry = 18
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return false
	}
	align := func(n uint32) int64 { return (int64(n) + 3) &^ 3 }
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxKernel {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return false
		}
		for len(notes) >= 12 {
			name, desc, kind := f.ByteOrder.Uint32(notes), f.ByteOrder.Uint32(notes[4:]), f.ByteOrder.Uint32(notes[8:])
			if kind == entry && bytes.HasPrefix(notes[12:], []byte("Xen\x00")) {
				return true
			}
			notes = notes[min(12+align(name)+align(desc), int64(len(notes))):]
		}
	}
	return false
}
