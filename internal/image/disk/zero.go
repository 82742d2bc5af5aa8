package disk

import "bytes"

// BlockSize is the smallest run of zeros, in bytes, that is left out of a
// written file: the block size of common file systems.
const BlockSize = 4096

var zeros [64 << 10]byte

// IsZero reports whether p holds nothing but zeros.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// DataRuns calls write for every run of BlockSize-aligned blocks of p that are
// not all zeros, with the run's offset in p, and stops at its first error.
func DataRuns(p []byte, write func(off int, run []byte) error) error {
	for off := 0; off < len(p); {
		end := min(off+BlockSize, len(p))
		if IsZero(p[off:end]) {
			off = end
			continue
		}
		start := off
		for off = end; off < len(p); off = end {
			end = min(off+BlockSize, len(p))
			if IsZero(p[off:end]) {
				break
			}
		}
		if err := write(start, p[start:off]); err != nil {
			return err
		}
	}
	return nil
}
