package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// unit is the cluster size of the crafted files: the smallest, so that fuzzing
// works on small inputs.
const unit = 512

// craft makes a small valid image and lets change spoil it.
func craft(change func(b []byte)) []byte {
	b := craftClusters(9)
	if change != nil {
		change(b)
	}
	return b
}

// craftClusters makes an image with clusters of 2^bits bytes that one L2 table
// maps: header, L1 in cluster 1, reference counts in 2, L2 in 3, data in 4.
func craftClusters(bits int) []byte {
	clusterSize := 1 << bits
	b := make([]byte, 5*clusterSize)
	be := binary.BigEndian
	copy(b, Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], uint32(bits))
	be.PutUint64(b[24:], uint64(clusterSize/8*clusterSize))
	be.PutUint32(b[36:], 1)
	be.PutUint64(b[40:], uint64(clusterSize))
	be.PutUint64(b[48:], uint64(2*clusterSize))
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], refcountOrder)
	be.PutUint32(b[100:], writtenHeader)
	be.PutUint64(b[clusterSize:], uint64(3*clusterSize)|copiedBit)
	be.PutUint64(b[3*clusterSize:], uint64(4*clusterSize)|copiedBit)
	copy(b[4*clusterSize:], "content")
	return b
}

func put32(at int, v uint32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
}

func put64(at int, v uint64) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint64(b[at:], v) }
}

// hostile are files that must be refused, by what is wrong with them.
func hostile() map[string][]byte {
	files := map[string][]byte{
		"empty":            {},
		"magic only":       []byte(Magic),
		"cut in header":    craft(nil)[:90],
		"cut before L2":    craft(nil)[:3*unit],
		"cut in L2":        craft(nil)[:3*unit+100],
		"cut before L1":    craft(nil)[:unit],
		"no extension end": craft(put64(writtenHeader, 0x1234567800ffffff))[:5*unit],
	}
	for name, change := range map[string]func([]byte){
		"other magic":              func(b []byte) { b[0] = 'X' },
		"version 1":                put32(4, 1),
		"version 4":                put32(4, 4),
		"tiny clusters":            put32(20, 8),
		"huge clusters":            put32(20, 63),
		"no size":                  put64(24, 0),
		"absurd size":              put64(24, 1<<62),
		"negative size":            put64(24, 1<<63),
		"AES":                      put32(32, 1),
		"LUKS":                     put32(32, 2),
		"small L1":                 put64(24, 1<<40),
		"huge L1":                  put32(36, 1<<31),
		"L1 behind the end":        put64(40, 1<<30),
		"L1 at 2^63":               put64(40, 1<<63),
		"L1 over the header":       put64(40, 0),
		"reference table far":      put64(48, 1<<40),
		"reference table huge":     put32(56, 1<<20),
		"many snapshots":           put32(60, 1<<20),
		"snapshots far":            func(b []byte) { put32(60, 1)(b); put64(64, 1<<40)(b) },
		"corrupt bit":              put64(72, featureCorrupt),
		"external data bit":        put64(72, featureExternalData),
		"unknown feature":          put64(72, 1<<40),
		"reference order":          put32(96, 7),
		"short header":             put32(100, 72),
		"long header":              put32(100, 1<<20),
		"odd header":               put32(100, 105),
		"compression not there":    put64(72, featureCompression),
		"compression type":         func(b []byte) { put64(72, featureCompression)(b); put32(100, 112)(b); b[104] = 9 },
		"backing outside cluster":  func(b []byte) { put64(8, unit)(b); put32(16, 10)(b) },
		"backing name too long":    func(b []byte) { put64(8, 200)(b); put32(16, 5000)(b) },
		"backing over the header":  func(b []byte) { put64(8, 8)(b); put32(16, 10)(b) },
		"external data name":       put64(writtenHeader, extensionExternalData<<32|8),
		"encryption header":        put64(writtenHeader, extensionEncryption<<32|16),
		"extension too long":       put64(writtenHeader, 0x11112222_7fffffff),
		"long backing format":      put64(writtenHeader, extensionBackingFormat<<32|1000),
		"L2 behind the end":        put64(unit, 1<<40),
		"data behind the end":      put64(3*unit, 1<<40),
		"compressed behind end":    put64(3*unit, compressedBit|1<<40),
		"compressed in the header": put64(3*unit, compressedBit|100),
		"one cluster many times": func(b []byte) {
			for i := range 16 {
				put64(3*unit+i*8, 4*unit)(b)
			}
		},
		"one L2 table many times": func(b []byte) {
			put64(24, 16*unit/8*unit)(b)
			put32(36, 16)(b)
			put64(3*unit, 0)(b)
			for i := range 16 {
				put64(unit+i*8, 3*unit)(b)
			}
		},
	} {
		files[name] = craft(change)
	}
	bomb := craftClusters(16)
	for i := range 1 << 13 {
		put64(3<<16+i*8, compressedBit|4<<16)(bomb)
	}
	files["compressed bomb"] = bomb
	for name, change := range map[string]func([]byte){
		"L1 not aligned":   put64(40, 1<<16+512),
		"L2 not aligned":   put64(1<<16, 3<<16+512),
		"data not aligned": put64(3<<16, 4<<16+512),
	} {
		files[name] = craftClusters(16)
		change(files[name])
	}
	return files
}

func TestHostileFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, content := range hostile() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "hostile.qcow2")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Allocated(context.Background(), path)
			if !arm.IsCode(err, arm.CodeMalformedImage) {
				t.Errorf("Allocated: error %v, want %s", err, arm.CodeMalformedImage)
			}
			c, err := OpenChain(context.Background(), path)
			if err == nil {
				c.Close()
			}
			if !arm.IsCode(err, arm.CodeMalformedImage) {
				t.Errorf("OpenChain: error %v, want %s", err, arm.CodeMalformedImage)
			}
		})
	}
	if _, err := ParseHeader(bytes.NewReader(craft(nil)), 5*unit); err != nil {
		t.Errorf("the file all others were made from is refused: %v", err)
	}
}

func TestExtendedEntriesAreNamed(t *testing.T) {
	b := craftClusters(16)
	put64(72, featureExtendedL2)(b)
	put64(24, 1<<20)(b)
	h, err := ParseHeader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if !h.ExtendedL2 {
		t.Error("extended L2 entries are not reported")
	}
	if _, err := ReadMap(context.Background(), bytes.NewReader(b), h, int64(len(b))); !arm.IsCode(err, arm.CodeNotSupported) {
		t.Errorf("error %v, want %s", err, arm.CodeNotSupported)
	}
}

func FuzzReadMap(f *testing.F) {
	f.Add(craft(nil))
	for _, content := range hostile() {
		if len(content) < 1<<16 {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		size := int64(len(content))
		h, err := ParseHeader(bytes.NewReader(content), size)
		if err != nil {
			if !arm.IsCode(err, arm.CodeMalformedImage) {
				t.Fatalf("error without its code: %v", err)
			}
			return
		}
		m, err := ReadMap(context.Background(), bytes.NewReader(content), h, size)
		if err != nil {
			return
		}
		if rest := disk.Subtract(m.Data, m.Allocated); len(rest) > 0 {
			t.Fatalf("data outside what is allocated: %v", rest)
		}
		for _, e := range m.Allocated {
			if e.Start < 0 || e.End() > h.Size {
				t.Fatalf("extent %v outside a disk of %d bytes", e, h.Size)
			}
		}
	})
}

func FuzzOpenChain(f *testing.F) {
	f.Add(craft(nil))
	f.Add(compressedImage(f, 9, bytes.Repeat([]byte("text"), unit/4), false))
	f.Add(compressedImage(f, 9, bytes.Repeat([]byte("text"), unit/4), true))
	path := filepath.Join(f.TempDir(), "fuzz.qcow2")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := OpenChain(context.Background(), path)
		if err != nil {
			return
		}
		defer c.Close()
		extents, err := c.Extents(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for _, e := range extents[:min(len(extents), 8)] {
			// A compressed cluster may hold garbage; reading must only not panic.
			_, _ = c.ReadAt(buf[:min(int64(len(buf)), e.Length)], e.Start)
		}
	})
}
