package buildtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Layout of the base disk in bytes. All but the little that is written is holes.
const (
	// DiskBytes is the size of the base disk.
	DiskBytes = 64 << 20

	sector     = 512
	espStart   = 1 << 20
	espBytes   = 36 << 20
	rootStart  = espStart + espBytes
	rootBytes  = DiskBytes - rootStart - 1<<20
	journalAt  = rootStart + 2<<20 // where guests keep their journal
	entryBytes = 64 << 10          // one cluster of an overlay
	maxEntries = 128
)

// loader is the boot loader's path in the EFI system partition; its content is
// enough of a PE file to be told from none.
const loader = "/EFI/BOOT/BOOTX64.EFI"

// WriteBaseDisk makes a raw disk at path that looks like a generation 2 Linux
// image: a GPT, an EFI system partition with a boot loader, a root file system's
// superblock. path must not exist.
func WriteBaseDisk(path string) (err error) {
	d, err := diskfs.Create(path, DiskBytes, diskfs.SectorSize512)
	if err != nil {
		return fmt.Errorf("make the base disk: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 1, Start: espStart / sector, End: (espStart+espBytes)/sector - 1, Type: gpt.EFISystemPartition, Name: "esp"},
		{Index: 2, Start: rootStart / sector, End: (rootStart+rootBytes)/sector - 1, Type: gpt.LinuxFilesystem, Name: "root"},
	}}
	if err := d.Partition(table); err != nil {
		return fmt.Errorf("partition the base disk: %w", err)
	}
	esp, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: 1, FSType: filesystem.TypeFat32, VolumeLabel: "ESP"})
	if err != nil {
		return fmt.Errorf("format the EFI system partition: %w", err)
	}
	if err := esp.Mkdir("/EFI/BOOT"); err != nil {
		return fmt.Errorf("fill the EFI system partition: %w", err)
	}
	f, err := esp.OpenFile(loader, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("fill the EFI system partition: %w", err)
	}
	pe := make([]byte, 1024)
	copy(pe, "MZ")
	binary.LittleEndian.PutUint32(pe[0x3c:], 0x80)
	copy(pe[0x80:], "PE\x00\x00\x64\x86")
	if _, err := f.Write(pe); err != nil {
		return fmt.Errorf("fill the EFI system partition: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("fill the EFI system partition: %w", err)
	}
	return writeSuperblock(path)
}

// writeSuperblock writes what tells an ext4 file system.
func writeSuperblock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], 1024)             // inodes
	le.PutUint32(b[0x04:], rootBytes/4096)   // blocks
	le.PutUint32(b[0x18:], 2)                // block size: 1024 << 2
	le.PutUint32(b[0x20:], 32768)            // blocks per group
	le.PutUint32(b[0x28:], 1024)             // inodes per group
	le.PutUint16(b[0x38:], 0xEF53)           // magic
	le.PutUint16(b[0x3a:], 1)                // cleanly unmounted
	le.PutUint32(b[0x4c:], 1)                // dynamic inode sizes
	le.PutUint16(b[0x58:], 256)              // inode size
	le.PutUint32(b[0x60:], 0x0002|0x40|0x80) // file types, extents, 64 bit
	_, err = f.WriteAt(b, rootStart+1024)
	return errors.Join(err, f.Close())
}
