package buildtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
)

// A guest's file system is a journal: one cluster of text for each thing that
// happened in it.

// ReadJournal reads what guests have written to a disk, oldest first.
func ReadJournal(r io.ReaderAt) ([]string, error) {
	var all []string
	entry := make([]byte, entryBytes)
	for i := range maxEntries {
		if _, err := r.ReadAt(entry, journalAt+int64(i)*entryBytes); err != nil {
			return nil, fmt.Errorf("read entry %d of the journal: %w", i, err)
		}
		text, _, _ := bytes.Cut(entry, []byte{0})
		if len(text) == 0 {
			break
		}
		all = append(all, string(text))
	}
	return all, nil
}

// journalLength counts the entries on the disk that a guest boots from, whose
// backing files lie below data.
func journalLength(overlay, data string) (int, error) {
	chain, err := qcow2.OpenChain(context.Background(), overlay, data)
	if err != nil {
		return 0, err
	}
	defer chain.Close()
	entries, err := ReadJournal(chain)
	return len(entries), err
}

// appendJournal writes entries into an empty overlay, as numbers first and on,
// and gives it its present size.
func appendJournal(overlay string, first int, entries []string, diskBytes int64) error {
	f, err := os.OpenFile(overlay, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := qcow2.ParseHeader(f, info.Size())
	if err != nil {
		return err
	}
	var extents []disk.Extent
	if len(entries) > 0 {
		extents = append(extents, disk.Extent{Start: journalAt + int64(first)*entryBytes, Length: int64(len(entries)) * entryBytes})
	}
	w, err := qcow2.NewWriter(f, diskBytes, extents, &qcow2.Backing{Path: h.Backing, Format: h.BackingFormat})
	if err != nil {
		return err
	}
	for i, e := range entries {
		cluster := make([]byte, entryBytes)
		copy(cluster, e)
		if _, err := w.WriteAt(cluster, journalAt+int64(first+i)*entryBytes); err != nil {
			return err
		}
	}
	return nil
}
