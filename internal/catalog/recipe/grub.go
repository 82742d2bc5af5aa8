package recipe

import (
	"encoding/binary"
	"fmt"
)

// Offsets in GRUB's i386-pc images (grub-core/boot/i386/pc/boot.S and
// diskboot.S, GRUB 2): stable since 2.00.
const (
	bootCodeEnd      = 0x1b8 // the disk signature and MBR partition table follow
	bootKernelSector = 0x5c  // u64: where core.img starts
	bootDrive        = 0x64  // u8: 0xff is the drive the BIOS booted from
	bootDriveCheck   = 0x66  // two bytes that jump over a workaround for floppies
	blockListStart   = 0x1f4 // u64: second sector of core.img
	blockListLength  = 0x1fc // u16: sectors after the first
	bootSignature    = 0x1fe
)

// patchBoot puts GRUB's boot.img into mbr, the first sector of a disk, so that it
// loads core.img from sector coreStart, and returns core.img padded to whole
// sectors with its own block list filled in. The partition table and the disk
// signature of mbr stay. This is what grub-bios-setup(8) does to a block device.
func patchBoot(mbr, boot, core []byte, coreStart uint64) ([]byte, error) {
	if len(mbr) != sectorBytes || len(boot) != sectorBytes {
		return nil, fmt.Errorf("the boot sector has %d bytes and the boot code %d, want %d", len(mbr), len(boot), sectorBytes)
	}
	if binary.LittleEndian.Uint16(boot[bootSignature:]) != 0xaa55 {
		return nil, fmt.Errorf("the boot code is not a boot sector")
	}
	sectors := (len(core) + sectorBytes - 1) / sectorBytes
	if sectors < 2 || int64(sectors)*sectorBytes > biosBoot.size {
		return nil, fmt.Errorf("the boot loader has %d bytes, which does not fit the BIOS boot partition", len(core))
	}
	if have := int(binary.LittleEndian.Uint16(core[blockListLength:])); have != sectors-1 {
		return nil, fmt.Errorf("the boot loader says it has %d more sectors, but %d follow", have, sectors-1)
	}
	// Bytes 3 to 0x59 of boot.img are where a FAT file system has its
	// parameters; on a partitioned disk the image's own zeros are right.
	copy(mbr[:bootCodeEnd], boot)
	binary.LittleEndian.PutUint64(mbr[bootKernelSector:], coreStart)
	mbr[bootDrive] = 0xff
	mbr[bootDriveCheck], mbr[bootDriveCheck+1] = 0x90, 0x90
	binary.LittleEndian.PutUint16(mbr[bootSignature:], 0xaa55)

	padded := make([]byte, sectors*sectorBytes)
	copy(padded, core)
	binary.LittleEndian.PutUint64(padded[blockListStart:], coreStart+1)
	return padded, nil
}
