package structure

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// Types of partitions that matter to a firmware.
const (
	typeESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	mbrESP  = "0xef"
)

// The MBR.
const (
	bootCodeSize  = 440
	mbrEntries    = 446
	mbrProtective = 0xee
	maxLogical    = 128 // logical partitions that are followed
)

// The GPT, UEFI specification 5.3.
const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	gptMaxEntries = 4096
	gptMaxSize    = 1 << 20 // bytes of all entries
)

// hasGPT reports whether the disk has a GPT: a protective partition in its
// first sector or a header in its second.
func (c *checker) hasGPT(first []byte) bool {
	for i := range 4 {
		if first[mbrEntries+16*i+4] == mbrProtective {
			return true
		}
	}
	second := c.read(sectorSize, sectorSize)
	return second != nil && string(second[:8]) == gptSignature
}

// gptHeader is a valid GPT header.
type gptHeader struct {
	alternate, firstUsable, lastUsable uint64
	id                                 string
	entries                            []byte
	entrySize                          int
}

// readGPT reads the header at sector lba and its entries; problem says what is
// wrong with them.
func (c *checker) readGPT(lba uint64) (h gptHeader, problem string) {
	le := binary.LittleEndian
	if lba == 0 || lba >= uint64(c.sectors) {
		return h, "is outside the disk"
	}
	b := c.read(int64(lba)*sectorSize, sectorSize)
	if b == nil || string(b[:8]) != gptSignature {
		return h, "is missing"
	}
	size := le.Uint32(b[12:])
	if size < gptHeaderSize || size > sectorSize {
		return h, fmt.Sprintf("has an impossible size of %d bytes", size)
	}
	sum := le.Uint32(b[16:])
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:size]) != sum {
		return h, "has a wrong checksum"
	}
	if at := le.Uint64(b[24:]); at != lba {
		return h, fmt.Sprintf("says it is at sector %d", at)
	}
	h = gptHeader{
		alternate: le.Uint64(b[32:]), firstUsable: le.Uint64(b[40:]), lastUsable: le.Uint64(b[48:]),
		id: guidText(b[56:72]), entrySize: int(le.Uint32(b[84:])),
	}
	at, count := le.Uint64(b[72:]), le.Uint32(b[80:])
	if h.entrySize < 128 || h.entrySize%128 != 0 || count > gptMaxEntries || int64(count)*int64(h.entrySize) > gptMaxSize || at >= uint64(c.sectors) {
		return h, fmt.Sprintf("has %d entries of %d bytes at sector %d, which is impossible", count, h.entrySize, at)
	}
	if h.entries = c.read(int64(at)*sectorSize, int64(count)*int64(h.entrySize)); h.entries == nil {
		return h, "has entries outside the disk"
	}
	if crc32.ChecksumIEEE(h.entries) != le.Uint32(b[88:]) {
		return h, "has entries with a wrong checksum"
	}
	return h, ""
}

func (c *checker) checkGPT() {
	last := uint64(c.sectors - 1)
	h, wrong := c.readGPT(1)
	if wrong != "" {
		c.report.problem("the GPT header %s", wrong)
		if h, wrong = c.readGPT(last); wrong != "" {
			return
		}
		c.report.warning("the partitions are those of the backup GPT")
	} else {
		c.checkBackup(h, last)
	}
	if h.lastUsable > last || h.firstUsable > h.lastUsable {
		c.report.problem("the GPT allows partitions in sectors %d to %d, but the disk has %d", h.firstUsable, h.lastUsable, c.sectors)
	}
	for i := 0; (i+1)*h.entrySize <= len(h.entries); i++ {
		e := h.entries[i*h.entrySize:]
		kind := guidText(e[:16])
		if kind == "00000000-0000-0000-0000-000000000000" {
			continue
		}
		first, end := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if first < h.firstUsable || end > h.lastUsable {
			c.report.problem("partition %d (sectors %d to %d) is outside the sectors %d to %d that the GPT allows", i+1, first, end, h.firstUsable, h.lastUsable)
		}
		c.add(i+1, utf16Text(e[56:128]), kind, first, end)
	}
}

// checkBackup checks the second GPT, which belongs at the end of the disk.
func (c *checker) checkBackup(h gptHeader, last uint64) {
	if h.alternate > last {
		c.report.problem("the backup GPT would be at sector %d, behind the end of the disk: it was cut", h.alternate)
		return
	}
	if h.alternate < last {
		c.report.warning("the backup GPT is at sector %d, not in the last one: the disk was grown; sgdisk -e moves it", h.alternate)
	}
	backup, wrong := c.readGPT(h.alternate)
	switch {
	case wrong != "":
		c.report.problem("the backup GPT header %s", wrong)
	case backup.id != h.id || string(backup.entries) != string(h.entries):
		c.report.problem("the backup GPT differs from the first")
	}
}

func (c *checker) checkMBR(first []byte) {
	le := binary.LittleEndian
	for i := range 4 {
		e := first[mbrEntries+16*i:]
		kind, start, count := e[4], uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		switch {
		case kind == 0 || count == 0:
		case kind == 0x05 || kind == 0x0f || kind == 0x85:
			c.checkLogical(start)
		default:
			c.add(i+1, "", fmt.Sprintf("%#02x", kind), start, start+count-1)
		}
	}
}

// checkLogical follows the logical partitions of the extended one at base.
func (c *checker) checkLogical(base uint64) {
	le := binary.LittleEndian
	at := base
	for n := 5; n < 5+maxLogical; n++ {
		b := c.read(int64(at)*sectorSize, sectorSize)
		if b == nil || b[510] != 0x55 || b[511] != 0xaa {
			c.report.problem("the extended partition table at sector %d is damaged", at)
			return
		}
		e, next := b[mbrEntries:], b[mbrEntries+16:]
		if count := uint64(le.Uint32(e[12:])); e[4] != 0 && count > 0 {
			start := at + uint64(le.Uint32(e[8:]))
			c.add(n, "", fmt.Sprintf("%#02x", e[4]), start, start+count-1)
		}
		if next[4] == 0 {
			return
		}
		at = base + uint64(le.Uint32(next[8:]))
	}
	c.report.problem("the extended partition has more than %d logical partitions, or they form a circle", maxLogical)
}

// guidText writes a GUID in its usual mixed-endian form.
func guidText(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func utf16Text(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(b[i:]))
	}
	text, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return text
}
