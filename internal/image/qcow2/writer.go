package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sort"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// What every written image has: clusters of 64 KiB, reference counts of 16
// bits, a header of 104 bytes. These are QEMU's own defaults.
const (
	clusterSize     = 64 << 10
	refcountOrder   = 4
	writtenHeader   = 104
	l2Coverage      = clusterSize / 8 * clusterSize
	refcountPerUnit = clusterSize / 2 // clusters counted by one block
)

// Backing names the image below an overlay.
type Backing struct {
	Path   string // kept as given; a relative one is relative to the overlay's directory
	Format string // "qcow2" or "raw"
}

// segment is a run of the disk and where the file keeps it.
type segment struct {
	disk disk.Extent
	file int64
}

// Writer writes a qcow2 version 3 image whose allocated ranges are known before
// its content. The tables are written first, the content can then be written
// in any order and by several goroutines at once. What is not written of an
// allocated range reads as zeros and takes no space.
type Writer struct {
	file     io.WriterAt
	segments []segment
}

// NewWriter writes the tables of an image of size bytes to the empty file f and
// gives the file its final length. data are the ranges that will be written;
// they are extended to whole clusters of 64 KiB. With a backing file that would
// hide what it holds beside them, so then they must be whole clusters (or end
// with the disk).
func NewWriter(f *os.File, size int64, data []disk.Extent, backing *Backing) (*Writer, error) {
	if size <= 0 || size%disk.SectorSize != 0 {
		return nil, arm.Errorf(arm.CodeInternal, "a qcow2 image of %d bytes is not a whole number of sectors", size)
	}
	clusters := make([]disk.Extent, 0, len(data))
	for _, e := range data {
		if e.Start < 0 || e.Length < 0 || e.End() > size {
			return nil, arm.Errorf(arm.CodeInternal, "the range %d+%d is outside a disk of %d bytes", e.Start, e.Length, size)
		}
		start, end := e.Start/clusterSize*clusterSize, min(disk.RoundUp(e.End(), clusterSize), size)
		if backing != nil && (start != e.Start || end != e.End()) {
			return nil, arm.Errorf(arm.CodeInternal, "the range %d+%d of an overlay is not made of whole clusters", e.Start, e.Length)
		}
		if e.Length > 0 {
			clusters = append(clusters, disk.Extent{Start: start, Length: end - start})
		}
	}
	l := newLayout(size, disk.Union(clusters), backing)
	tables, err := l.tables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if _, err := f.WriteAt(t.bytes, t.offset); err != nil {
			return nil, fmt.Errorf("writing the tables of a qcow2 image: %w", err)
		}
	}
	if err := f.Truncate(l.clusters * clusterSize); err != nil {
		return nil, fmt.Errorf("sizing a qcow2 image: %w", err)
	}
	return &Writer{file: f, segments: l.segments}, nil
}

// WriteAt writes p at off of the disk, all of which must lie in the ranges the
// Writer was made for.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	written := 0
	for len(p) > 0 {
		i := sort.Search(len(w.segments), func(i int) bool { return w.segments[i].disk.End() > off })
		if i == len(w.segments) || w.segments[i].disk.Start > off {
			return written, arm.Errorf(arm.CodeInternal, "byte %d of the disk is outside the ranges of this qcow2 image", off)
		}
		s := w.segments[i]
		part := p[:min(int64(len(p)), s.disk.End()-off)]
		n, err := w.file.WriteAt(part, s.file+off-s.disk.Start)
		written += n
		if err != nil {
			return written, err
		}
		p, off = p[n:], off+int64(n)
	}
	return written, nil
}

// layout is the place of everything in a written file, in clusters:
// header, L1 table, L2 tables, reference count table, its blocks, data.
type layout struct {
	size     int64
	backing  *Backing
	segments []segment
	l2Of     []int64 // L1 indexes that have an L2 table, ascending

	l1At, l2At, refTableAt, refBlocksAt     int64
	l1Clusters, refTableClusters, refBlocks int64
	clusters                                int64 // of the whole file
}

func newLayout(size int64, data []disk.Extent, backing *Backing) *layout {
	l := &layout{size: size, backing: backing}
	l.l1At = 1
	l.l1Clusters = units(units(size, l2Coverage)*8, clusterSize)
	var content int64
	for _, e := range data {
		content += units(e.Length, clusterSize)
		for i := e.Start / l2Coverage; i*l2Coverage < e.End(); i++ {
			if n := len(l.l2Of); n == 0 || l.l2Of[n-1] != i {
				l.l2Of = append(l.l2Of, i)
			}
		}
	}
	l.l2At = l.l1At + l.l1Clusters
	l.refTableAt = l.l2At + int64(len(l.l2Of))
	// Reference counts count their own clusters too: grow until they fit.
	for {
		l.clusters = l.refTableAt + l.refTableClusters + l.refBlocks + content
		blocks := units(l.clusters, refcountPerUnit)
		table := units(blocks*8, clusterSize)
		if blocks == l.refBlocks && table == l.refTableClusters {
			break
		}
		l.refBlocks, l.refTableClusters = blocks, table
	}
	l.refBlocksAt = l.refTableAt + l.refTableClusters
	at := (l.refBlocksAt + l.refBlocks) * clusterSize
	for _, e := range data {
		l.segments = append(l.segments, segment{disk: e, file: at})
		at += units(e.Length, clusterSize) * clusterSize
	}
	return l
}

// units is how many units hold n.
func units(n, unit int64) int64 { return (n + unit - 1) / unit }

// table is bytes with their place in the file.
type table struct {
	offset int64
	bytes  []byte
}

// tables are the header and everything else before the data.
func (l *layout) tables() ([]table, error) {
	header, err := l.header()
	if err != nil {
		return nil, err
	}
	be := binary.BigEndian
	l1 := make([]byte, units(l.size, l2Coverage)*8)
	l2 := make([]byte, int64(len(l.l2Of))*clusterSize)
	for i, n := range l.l2Of {
		be.PutUint64(l1[n*8:], uint64((l.l2At+int64(i))*clusterSize)|copiedBit)
	}
	table2 := 0
	for _, s := range l.segments {
		for off := int64(0); off < s.disk.Length; off += clusterSize {
			at := s.disk.Start + off
			for l.l2Of[table2] != at/l2Coverage {
				table2++
			}
			entry := int64(table2)*clusterSize + at%l2Coverage/clusterSize*8
			be.PutUint64(l2[entry:], uint64(s.file+off)|copiedBit)
		}
	}
	refTable := make([]byte, l.refBlocks*8)
	for i := range l.refBlocks {
		be.PutUint64(refTable[i*8:], uint64((l.refBlocksAt+i)*clusterSize))
	}
	refBlocks := make([]byte, l.refBlocks*clusterSize)
	for i := range l.clusters {
		be.PutUint16(refBlocks[i*2:], 1)
	}
	return []table{
		{0, header},
		{l.l1At * clusterSize, l1},
		{l.l2At * clusterSize, l2},
		{l.refTableAt * clusterSize, refTable},
		{l.refBlocksAt * clusterSize, refBlocks},
	}, nil
}

// header is the file's first bytes: header, extensions, backing file's name.
func (l *layout) header() ([]byte, error) {
	b := make([]byte, writtenHeader)
	be := binary.BigEndian
	copy(b, Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], uint32(bits.TrailingZeros(clusterSize)))
	be.PutUint64(b[24:], uint64(l.size))
	be.PutUint32(b[36:], uint32(units(l.size, l2Coverage)))
	be.PutUint64(b[40:], uint64(l.l1At*clusterSize))
	be.PutUint64(b[48:], uint64(l.refTableAt*clusterSize))
	be.PutUint32(b[56:], uint32(l.refTableClusters))
	be.PutUint32(b[96:], refcountOrder)
	be.PutUint32(b[100:], writtenHeader)
	if l.backing == nil {
		return append(b, make([]byte, 8)...), nil // the end of the extensions
	}
	if n := len(l.backing.Path); n == 0 || n > maxBackingName {
		return nil, arm.Errorf(arm.CodeInternal, "the backing file's path has %d bytes, which is not between 1 and %d: use a shorter or relative path", n, maxBackingName)
	}
	if f := l.backing.Format; f != "qcow2" && f != "raw" {
		return nil, arm.Errorf(arm.CodeInternal, "a backing file of format %q is not allowed: use qcow2 or raw", f)
	}
	b = be.AppendUint32(b, extensionBackingFormat)
	b = be.AppendUint32(b, uint32(len(l.backing.Format)))
	b = append(b, l.backing.Format...)
	b = append(b, make([]byte, disk.RoundUp(int64(len(b)), 8)-int64(len(b))+8)...)
	be.PutUint64(b[8:], uint64(len(b)))
	be.PutUint32(b[16:], uint32(len(l.backing.Path)))
	return append(b, l.backing.Path...), nil
}

// CreateOverlay makes a new, empty qcow2 overlay at path: a disk of size bytes
// that reads as the backing file, and as zeros behind its end. The backing file
// is not looked at. path must not exist; nothing is left of it on error.
func CreateOverlay(path string, size int64, backing Backing) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "creating the disk overlay: %w", err)
	}
	_, err = NewWriter(f, size, nil, &backing)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("creating the disk overlay %s: %w", path, err)
	}
	return nil
}
