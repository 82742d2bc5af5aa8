// Package structure tells from a disk's content alone whether it can be an
// operating system's: its partition table, the parts a firmware starts from and
// the state of its file systems. It only reads, and changes nothing.
package structure

import (
	"context"
	"fmt"
	"io"
	"slices"

	"goldsmith/internal/image/disk"
)

const sectorSize = disk.SectorSize

// Firmware is what shall start the disk.
type Firmware string

// Firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Severity says what a Finding means.
type Severity string

// Severities.
const (
	Problem Severity = "problem" // the disk is damaged or will not start
	Warning Severity = "warning" // it works, but something is not as it should be
)

// Finding is one thing that is not right.
type Finding struct {
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
}

// Partition is one partition of a disk.
type Partition struct {
	Number     int         `json:"number"` // as the operating system counts
	Name       string      `json:"name,omitempty"`
	Type       string      `json:"type"` // GUID, or the byte of an MBR as "0x83"
	Range      disk.Extent `json:"range"`
	FileSystem string      `json:"fileSystem,omitempty"` // "ext4", "xfs", "btrfs", "vfat", "ntfs", "swap", "lvm" or ""
}

// Report is what a disk looks like.
type Report struct {
	Scheme     string      `json:"scheme"` // "gpt", "mbr" or ""
	Partitions []Partition `json:"partitions"`
	Findings   []Finding   `json:"findings"`
}

// OK reports whether there is no problem; there may be warnings.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Problem })
}

func (r *Report) problem(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Problem, fmt.Sprintf(format, args...)})
}

func (r *Report) warning(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Warning, fmt.Sprintf(format, args...)})
}

// Source is the disk to look at.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Check looks at a disk that firmware shall start. What is wrong with the disk
// is in the report; the error is that of reading it.
func Check(ctx context.Context, src Source, firmware Firmware) (*Report, error) {
	c := &checker{ctx: ctx, src: src, sectors: src.Size() / sectorSize, report: &Report{}}
	first := c.read(0, sectorSize)
	switch {
	case c.err != nil:
	case first == nil || first[510] != 0x55 || first[511] != 0xaa:
		c.report.problem("the disk has no partition table: its first sector does not end in 55 AA")
	default:
		if c.hasGPT(first) {
			c.report.Scheme = "gpt"
			c.checkGPT()
		} else {
			c.report.Scheme = "mbr"
			c.checkMBR(first)
		}
		c.checkOverlap()
		c.checkFileSystems()
		c.checkBoot(firmware, first)
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.report, nil
}

// checker is one Check.
type checker struct {
	ctx     context.Context
	src     Source
	sectors int64
	report  *Report
	err     error // the first error of reading; nothing is read after it
}

// read returns length bytes at off, nil where that is outside the disk or the
// disk cannot be read.
func (c *checker) read(off, length int64) []byte {
	if c.err == nil && c.ctx.Err() != nil {
		c.err = context.Cause(c.ctx)
	}
	if c.err != nil || off < 0 || length < 0 || off > c.src.Size()-length {
		return nil
	}
	b := make([]byte, length)
	if err := disk.ReadFull(c.src, b, off); err != nil {
		c.err = fmt.Errorf("reading the disk at %d: %w", off, err)
		return nil
	}
	return b
}

// add adds a partition of the sectors first to last, if it lies on the disk.
func (c *checker) add(number int, name, kind string, first, last uint64) {
	if first == 0 || last < first || last >= uint64(c.sectors) {
		c.report.problem("partition %d (sectors %d to %d) is not within the disk of %d sectors", number, first, last, c.sectors)
		return
	}
	c.report.Partitions = append(c.report.Partitions, Partition{
		Number: number, Name: name, Type: kind,
		Range: disk.Extent{Start: int64(first) * sectorSize, Length: int64(last-first+1) * sectorSize},
	})
}

func (c *checker) checkOverlap() {
	byStart := slices.Clone(c.report.Partitions)
	slices.SortFunc(byStart, func(a, b Partition) int {
		if a.Range.Start < b.Range.Start {
			return -1
		}
		return 1
	})
	for i := 1; i < len(byStart); i++ {
		if a, b := byStart[i-1], byStart[i]; a.Range.End() > b.Range.Start {
			c.report.problem("partitions %d and %d overlap", a.Number, b.Number)
		}
	}
	if len(byStart) == 0 {
		c.report.problem("the partition table is empty")
	}
}

// checkBoot looks for what the firmware starts from and for a root file system.
func (c *checker) checkBoot(firmware Firmware, first []byte) {
	if len(c.report.Partitions) == 0 {
		return
	}
	isESP := func(p Partition) bool { return p.Type == typeESP || p.Type == mbrESP }
	switch i := slices.IndexFunc(c.report.Partitions, isESP); {
	case firmware == UEFI && i < 0:
		c.report.problem("there is no EFI system partition, so UEFI firmware has nothing to start")
	case firmware == UEFI && c.report.Partitions[i].FileSystem != "vfat":
		c.report.problem("the EFI system partition (number %d) has no FAT file system", c.report.Partitions[i].Number)
	case firmware == BIOS && disk.IsZero(first[:bootCodeSize]):
		c.report.problem("the first sector has no boot code, so a BIOS has nothing to start")
	}
	isRoot := func(p Partition) bool {
		switch p.FileSystem {
		case "ext4", "xfs", "btrfs", "ntfs", "lvm":
			return true
		}
		return false
	}
	if !slices.ContainsFunc(c.report.Partitions, isRoot) {
		c.report.problem("no partition has a file system that an operating system could be on")
	}
}
