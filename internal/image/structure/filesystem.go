package structure

import (
	"encoding/binary"

	"goldsmith/internal/image/disk"
)

// The superblock of ext2 to ext4 (kernel documentation, "ext4/super").
const (
	extSuperblock    = 1024
	extMagic         = 0xef53
	extStateClean    = 1
	extStateErrors   = 2
	extNeedsRecovery = 0x4
	ext64Bit         = 0x80
)

// Where other file systems show themselves.
const (
	btrfsMagicAt = 65536 + 64
	btrfsSizeAt  = 65536 + 112
	swapMagicAt  = 4096 - 10
	lvmLabelAt   = 512
)

func (c *checker) checkFileSystems() {
	for i := range c.report.Partitions {
		p := &c.report.Partitions[i]
		p.FileSystem = c.fileSystem(p)
	}
}

// fileSystem names the file system of a partition and checks its state.
func (c *checker) fileSystem(p *Partition) string {
	at := func(off, length int64) []byte {
		if off+length > p.Range.Length {
			return nil
		}
		return c.read(p.Range.Start+off, length)
	}
	if b := at(extSuperblock, 1024); b != nil && binary.LittleEndian.Uint16(b[56:]) == extMagic {
		c.checkExt(p, b)
		return "ext4"
	}
	boot := at(0, sectorSize)
	if boot == nil {
		return ""
	}
	switch {
	case string(boot[:4]) == "XFSB":
		blocks, size := binary.BigEndian.Uint64(boot[8:]), uint64(binary.BigEndian.Uint32(boot[4:]))
		c.checkSize(p, "xfs", blocks, size)
		return "xfs"
	case string(boot[3:11]) == "NTFS    ":
		return "ntfs"
	case boot[510] == 0x55 && boot[511] == 0xaa && (string(boot[54:57]) == "FAT" || string(boot[82:85]) == "FAT"):
		return "vfat"
	}
	if b := at(btrfsMagicAt, 8); string(b) == "_BHRfS_M" {
		if size := at(btrfsSizeAt, 8); size != nil {
			c.checkSize(p, "btrfs", binary.LittleEndian.Uint64(size), 1)
		}
		return "btrfs"
	}
	if b := at(lvmLabelAt, 8); string(b) == "LABELONE" {
		return "lvm"
	}
	if b := at(swapMagicAt, 10); string(b) == "SWAPSPACE2" {
		return "swap"
	}
	return ""
}

func (c *checker) checkExt(p *Partition, b []byte) {
	le := binary.LittleEndian
	state, incompatible := le.Uint16(b[58:]), le.Uint32(b[96:])
	switch {
	case incompatible&extNeedsRecovery != 0:
		c.report.problem("the ext4 file system on partition %d was not unmounted: its journal needs recovery", p.Number)
	case state&extStateErrors != 0:
		c.report.problem("the ext4 file system on partition %d is marked as having errors; run fsck", p.Number)
	case state&extStateClean == 0:
		c.report.problem("the ext4 file system on partition %d is not marked clean", p.Number)
	}
	blocks, shift := uint64(le.Uint32(b[4:])), le.Uint32(b[24:])
	if incompatible&ext64Bit != 0 {
		blocks |= uint64(le.Uint32(b[336:])) << 32
	}
	if shift > 6 {
		c.report.problem("the ext4 file system on partition %d has blocks of 2^%d KiB", p.Number, shift)
		return
	}
	c.checkSize(p, "ext4", blocks, 1024<<shift)
}

// checkSize checks that a file system of so many blocks fits its partition.
func (c *checker) checkSize(p *Partition, name string, blocks, blockSize uint64) {
	if blockSize == 0 || blocks > uint64(p.Range.Length)/blockSize {
		c.report.problem("the %s file system on partition %d is larger than the partition: %d blocks of %d bytes on %d bytes", name, p.Number, blocks, blockSize, p.Range.Length)
	}
}

var _ Source = disk.Memory(nil)
