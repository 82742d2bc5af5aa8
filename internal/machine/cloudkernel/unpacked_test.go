package cloudkernel

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// kernelELF is a 64-bit ELF file with one note.
func kernelELF(name string, kind uint32) []byte {
	note := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	note = binary.LittleEndian.AppendUint32(note, 4)
	note = binary.LittleEndian.AppendUint32(note, kind)
	note = append(note, name...)
	note = append(note, 0, 0, 0, 1)
	const headers = 64 + 56
	b := make([]byte, headers)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // where the program headers are
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint32(b[64:], 4) // a note
	le.PutUint64(b[72:], headers)
	le.PutUint64(b[96:], uint64(len(note)))
	le.PutUint64(b[104:], uint64(len(note)))
	return append(b, note...)
}

// bzImage is a kernel image with a payload.
func bzImage(payload []byte) []byte {
	b := make([]byte, 1024, 1024+len(payload)+4)
	b[0x1f1] = 1
	copy(b[0x202:], "HdrS")
	le := binary.LittleEndian
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint32(b[0x24c:], uint32(len(payload)+4))
	return append(append(b, payload...), 0, 0, 0, 0)
}

func packed(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	if err := w.Apply(lz4.LegacyOption(true)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpacked(t *testing.T) {
	alone := kernelELF("Xen\x00", 18)
	cut := bzImage(packed(t, alone))
	for name, c := range map[string]struct {
		image    []byte
		unpacked bool
	}{
		"entered without a loader":  {bzImage(packed(t, alone)), true},
		"another note":              {bzImage(packed(t, kernelELF("Xen\x00", 17))), false},
		"another's note":            {bzImage(packed(t, kernelELF("GNU\x00", 18))), false},
		"not an executable":         {bzImage(packed(t, []byte("kernel"))), false},
		"compressed by others":      {bzImage([]byte("\x1f\x8b\x08kernel")), false},
		"cut":                       {cut[:len(cut)-8], false},
		"no header":                 {[]byte("MZ"), false},
		"nothing where the payload": {bzImage(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			vmlinuz := filepath.Join(t.TempDir(), "vmlinuz-1")
			if err := os.WriteFile(vmlinuz, c.image, 0o644); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is there
				got, err := Unpacked(vmlinuz)
				if err != nil {
					t.Fatal(err)
				}
				if !c.unpacked {
					if got != vmlinuz {
						t.Fatalf("got %s", got)
					}
					continue
				}
				content, err := os.ReadFile(got)
				if err != nil || got == vmlinuz || !bytes.Equal(content, alone) {
					t.Fatalf("%s holds %x, %v", got, content, err)
				}
			}
		})
	}
}
