package format

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/image/vhd"
)

// DefaultMaxSize is the largest virtual size that is accepted unless told
// otherwise: 2 TiB, the end of what an MBR disk and a VHD can be.
const DefaultMaxSize = 2 << 40

// Limits bound what a file of unknown origin may ask for.
type Limits struct {
	// MaxSize is the largest virtual size in bytes; 0 means DefaultMaxSize.
	MaxSize int64
}

// Info is what a file turned out to be.
type Info struct {
	Format Format
	Size   int64 // virtual size in bytes, whole sectors
	// Native tells that the file can be read by this program itself. Others
	// need qemu-img.
	Native bool
	Detail string // the kind within the format, for people; may be empty
}

// Open opens the disk image of unknown origin at path and checks it as Inspect
// does. The caller closes the file.
func Open(ctx context.Context, path string, limits Limits) (*os.File, Info, error) {
	// A FIFO would block the opening for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		code := arm.CodeInternal
		if errors.Is(err, os.ErrNotExist) {
			code = arm.CodeNotFound
		}
		return nil, Info{}, arm.Errorf(code, "opening the disk image: %w", err)
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, Info{}, arm.Errorf(arm.CodeMalformedImage, "opening the disk image: %w", err).At(path)
	}
	info, err := InspectReader(ctx, f, stat.Size(), limits)
	if err != nil {
		f.Close()
		var e *arm.Error
		if errors.As(err, &e) && e.Target == "" {
			err = e.At(path)
		}
		return nil, Info{}, err
	}
	return f, info, nil
}

// Inspect tells what the disk image at path is. It refuses, with an arm.Error
// CodeMalformedImage, everything that must not reach a tool or a reader: files
// that name other files, encrypted ones, ones whose tables lie outside the
// file or promise more than it can hold, and formats it does not know.
// A virtual size above the limit is CodeTooLarge.
func Inspect(ctx context.Context, path string, limits Limits) (Info, error) {
	f, info, err := Open(ctx, path, limits)
	if err != nil {
		return Info{}, err
	}
	return info, f.Close()
}

// foreign are files that people mistake for disk images, by what they start
// with.
var foreign = []struct {
	magic, advice string
}{
	{"\x1f\x8b", "it is compressed with gzip; unpack it first"},
	{"\xfd7zXZ\x00", "it is compressed with xz; unpack it first"},
	{"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"},
	{"BZh", "it is compressed with bzip2; unpack it first"},
	{"PK\x03\x04", "it is a zip archive; unpack it first"},
	{"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"},
	{"<<< ", "it looks like a VirtualBox VDI; convert it with qemu-img convert -f vdi -O qcow2"},
	{"QED\x00", "it is a QED image; convert it with qemu-img convert -f qed -O qcow2"},
	{"LUKS\xba\xbe", "it is encrypted with LUKS; decrypt it first"},
	{"WithoutFreeSpace", "it is a Parallels image; convert it with qemu-img"},
	{"WithouFreSpacExt", "it is a Parallels image; convert it with qemu-img"},
	{"COWD", "it is an ESX sparse disk; export it as a monolithic or stream-optimized VMDK"},
	{"\x7fELF", "it is a program, not a disk image"},
	{"#!", "it is a script, not a disk image"},
	{"<!DOCTYPE", "it is a web page, not a disk image; check the address it was fetched from"},
	{"<html", "it is a web page, not a disk image; check the address it was fetched from"},
}

// InspectReader is Inspect of a file of fileSize bytes that r reads.
func InspectReader(ctx context.Context, r io.ReaderAt, fileSize int64, limits Limits) (Info, error) {
	if fileSize == 0 {
		return Info{}, malformed("the file is empty")
	}
	head := make([]byte, min(fileSize, vhd.FooterSize))
	if err := disk.ReadFull(r, head, 0); err != nil {
		return Info{}, malformed("reading the start of the file: %w", err)
	}
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	var info Info
	var err error
	switch {
	case starts(qcow2.Magic):
		info, err = inspectQCOW2(ctx, r, fileSize)
	case starts(vhdxMagic):
		info, err = inspectVHDX(ctx, r, fileSize)
	case starts(vmdkMagic):
		info, err = inspectVMDK(ctx, r, fileSize)
	case starts("# Disk DescriptorFile"):
		err = malformed("it is a VMDK descriptor that names other files; export the disk as one monolithic or stream-optimized file")
	case starts(vhd.Cookie):
		info, err = inspectDynamicVHD(ctx, r, head, fileSize)
	default:
		for _, f := range foreign {
			if starts(f.magic) {
				return Info{}, malformed("%s", f.advice)
			}
		}
		info, err = inspectFlat(r, fileSize)
	}
	if err != nil {
		return Info{}, err
	}
	limit := limits.MaxSize
	if limit == 0 {
		limit = DefaultMaxSize
	}
	if info.Size > limit {
		return Info{}, arm.Errorf(arm.CodeTooLarge, "the disk is %d bytes large, above the limit of %d: shrink it, or raise the limit if you trust it", info.Size, limit)
	}
	return info, nil
}

func malformed(format string, args ...any) error {
	return arm.Errorf(arm.CodeMalformedImage, "disk image: "+format, args...)
}

func inspectQCOW2(ctx context.Context, r io.ReaderAt, fileSize int64) (Info, error) {
	h, err := qcow2.ParseHeader(r, fileSize)
	if err != nil {
		return Info{}, err
	}
	if h.Backing != "" {
		return Info{}, malformed("it is an overlay over the file %q, which is not opened; make it self-contained with qemu-img convert -O qcow2", h.Backing)
	}
	info := Info{Format: QCOW2, Size: h.Size, Native: !h.ExtendedL2}
	if h.ExtendedL2 {
		info.Detail = "extended L2 entries"
		return info, nil
	}
	_, err = qcow2.ReadMap(ctx, r, h, fileSize)
	return info, err
}

// inspectFlat tells a fixed VHD, which ends in a footer, from a raw disk.
func inspectFlat(r io.ReaderAt, fileSize int64) (Info, error) {
	raw := Info{Format: Raw, Size: disk.RoundUp(fileSize, disk.SectorSize), Native: true}
	if fileSize <= vhd.FooterSize {
		return raw, nil
	}
	tail := make([]byte, vhd.FooterSize)
	if err := disk.ReadFull(r, tail, fileSize-vhd.FooterSize); err != nil {
		return Info{}, malformed("reading the end of the file: %w", err)
	}
	if !bytes.HasPrefix(tail, []byte(vhd.Cookie)) {
		return raw, nil
	}
	f, err := vhd.ParseFooter(tail)
	if err != nil {
		return Info{}, err
	}
	if f.Type != vhd.Fixed {
		return Info{}, malformed("its footer says it is a %s VHD, but it does not start like one: the file is damaged", f.Type)
	}
	if f.Size > fileSize-vhd.FooterSize {
		return Info{}, malformed("its footer gives a disk of %d bytes, but the file has only %d: it is cut short", f.Size, fileSize-vhd.FooterSize)
	}
	return Info{Format: VHD, Size: f.Size, Native: true, Detail: "fixed"}, nil
}

func inspectDynamicVHD(ctx context.Context, r io.ReaderAt, head []byte, fileSize int64) (Info, error) {
	f, err := vhd.ParseFooter(head)
	if err != nil {
		return Info{}, err
	}
	if f.Type == vhd.Differencing {
		return Info{}, malformed("it is a differencing VHD over another file; merge it with its parent first")
	}
	if f.Type != vhd.Dynamic {
		return Info{}, malformed("it starts with the footer of a %s VHD, which a dynamic one does", f.Type)
	}
	if f.DataOffset > uint64(fileSize-min(fileSize, vhd.HeaderSize)) {
		return Info{}, malformed("the VHD's dynamic header at %d is outside the file", f.DataOffset)
	}
	b := make([]byte, vhd.HeaderSize)
	if err := disk.ReadFull(r, b, int64(f.DataOffset)); err != nil {
		return Info{}, malformed("reading the VHD's dynamic header: %w", err)
	}
	h, err := vhd.ParseDynamic(b)
	if err != nil {
		return Info{}, err
	}
	if h.HasParent {
		return Info{}, malformed("it names a parent disk, which a dynamic VHD does not have")
	}
	if err := h.Check(f.Size, fileSize); err != nil {
		return Info{}, err
	}
	blocks := int64(0)
	err = eachEntry(ctx, r, h.TableOffset, int64(h.Entries), 4, func(_ int64, b []byte) error {
		if string(b) != "\xff\xff\xff\xff" {
			blocks++
		}
		return nil
	})
	if err == nil && blocks > fileSize/int64(h.BlockSize) {
		err = overbooked(blocks, int64(h.BlockSize), fileSize)
	}
	return Info{Format: VHD, Size: f.Size, Detail: "dynamic"}, err
}

// overbooked reports tables that name more blocks than the file can hold.
func overbooked(blocks, blockSize, fileSize int64) error {
	return malformed("its tables name %d blocks of %d bytes in a file of %d bytes: blocks are used more than once, or the file is cut short", blocks, blockSize, fileSize)
}

// eachEntry calls do for the entries of width bytes of a table.
func eachEntry(ctx context.Context, r io.ReaderAt, offset, entries int64, width int, do func(i int64, entry []byte) error) error {
	const batch = 8192
	buf := make([]byte, int64(width)*min(batch, entries))
	for i := int64(0); i < entries; i += batch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := buf[:int64(width)*min(batch, entries-i)]
		if err := disk.ReadFull(r, part, offset+i*int64(width)); err != nil {
			return malformed("reading a table at %d: %w", offset, err)
		}
		for j := 0; j < len(part); j += width {
			if err := do(i+int64(j/width), part[j:j+width]); err != nil {
				return err
			}
		}
	}
	return nil
}
