package vhd

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
)

var (
	id      = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func TestFixedFooterBytes(t *testing.T) {
	f, err := NewFixed(100<<20, id, created)
	if err != nil {
		t.Fatal(err)
	}
	got := f.Bytes()
	if len(got) != FooterSize {
		t.Fatalf("%d bytes", len(got))
	}
	want := "636f6e6563746978" + // cookie
		"00000002" + "00010000" + "ffffffffffffffff" +
		"30e9f225" + // 820638245 s after 2000
		"676c6473" + "00010000" + "5769326b" +
		"0000000006400000" + "0000000006400000" +
		"ffff10ff" + "00000002" + "ffffeb4c" +
		"0102030405060708090a0b0c0d0e0f10"
	if diff := cmp.Diff(want, hex.EncodeToString(got[:84])); diff != "" {
		t.Errorf("footer (-want +got):\n%s", diff)
	}
}

func TestNewFixedWantsWholeMiB(t *testing.T) {
	for _, size := range []int64{0, -1 << 20, 512, 1<<20 + 512} {
		if _, err := NewFixed(size, id, created); err == nil {
			t.Errorf("%d bytes were accepted", size)
		}
	}
}

func TestFooterRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := NewFixed(rapid.Int64Range(1, 4<<20).Draw(t, "MiB")<<20, id,
			epoch.Add(time.Duration(rapid.Uint32().Draw(t, "seconds"))*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseFooter(f.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestParseFooterRefuses(t *testing.T) {
	f, err := NewFixed(1<<20, id, created)
	if err != nil {
		t.Fatal(err)
	}
	good := f.Bytes()
	sealed := func(change func(b []byte)) []byte {
		b := append([]byte(nil), good...)
		change(b)
		binary.BigEndian.PutUint32(b[64:], checksum(b, 64))
		return b
	}
	damaged := sealed(func(b []byte) {})
	damaged[100] = 1
	for name, b := range map[string][]byte{
		"short":        good[:511],
		"cookie":       sealed(func(b []byte) { b[0] = 'C' }),
		"damaged":      damaged,
		"version":      sealed(func(b []byte) { b[13] = 2 }),
		"type":         sealed(func(b []byte) { b[63] = 9 }),
		"no size":      sealed(func(b []byte) { clear(b[48:56]) }),
		"huge":         sealed(func(b []byte) { b[48] = 0xff }),
		"half sectors": sealed(func(b []byte) { b[55] = 1 }),
	} {
		if _, err := ParseFooter(b); !arm.IsCode(err, arm.CodeMalformedImage) {
			t.Errorf("%s: error %v, want %s", name, err, arm.CodeMalformedImage)
		}
	}
}

func dynamic(table uint64, entries, block uint32, parent bool) []byte {
	b := make([]byte, HeaderSize)
	copy(b, headerCookie)
	binary.BigEndian.PutUint64(b[8:], noDataOffset)
	binary.BigEndian.PutUint64(b[16:], table)
	binary.BigEndian.PutUint32(b[24:], formatVersion)
	binary.BigEndian.PutUint32(b[28:], entries)
	binary.BigEndian.PutUint32(b[32:], block)
	if parent {
		b[40] = 1
	}
	binary.BigEndian.PutUint32(b[36:], checksum(b, 36))
	return b
}

func TestParseDynamic(t *testing.T) {
	h, err := ParseDynamic(dynamic(1536, 5, 2<<20, true))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(DynamicHeader{TableOffset: 1536, Entries: 5, BlockSize: 2 << 20, HasParent: true}, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		name           string
		size, fileSize int64
		want           arm.Code
	}{
		{"fits", 10 << 20, 4096, ""},
		{"too few blocks", 10<<20 + 512, 4096, arm.CodeMalformedImage},
		{"cut short", 10 << 20, 1540, arm.CodeMalformedImage},
	} {
		if got := arm.CodeOf(h.Check(test.size, test.fileSize)); got != test.want {
			t.Errorf("%s: code %q, want %q", test.name, got, test.want)
		}
	}
	damaged := dynamic(1536, 5, 2<<20, false)
	damaged[900] = 1
	for name, b := range map[string][]byte{
		"short":      make([]byte, 10),
		"no cookie":  make([]byte, HeaderSize),
		"odd block":  dynamic(1536, 5, 3<<20, false),
		"huge block": dynamic(1536, 5, 1<<31, false),
		"far table":  dynamic(1<<63, 5, 2<<20, false),
		"damaged":    damaged,
	} {
		if _, err := ParseDynamic(b); !arm.IsCode(err, arm.CodeMalformedImage) {
			t.Errorf("%s: error %v, want %s", name, err, arm.CodeMalformedImage)
		}
	}
}

func FuzzParseFooter(f *testing.F) {
	footer, err := NewFixed(1<<20, id, created)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(footer.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		footer, err := ParseFooter(b)
		if err != nil {
			return
		}
		again, err := ParseFooter(footer.Bytes())
		if err != nil {
			t.Fatalf("an accepted footer is refused after writing it: %v", err)
		}
		if diff := cmp.Diff(footer, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseDynamic(f *testing.F) {
	f.Add(dynamic(1536, 5, 2<<20, false), int64(10<<20), int64(4096))
	f.Fuzz(func(t *testing.T, b []byte, size, fileSize int64) {
		if h, err := ParseDynamic(b); err == nil && size > 0 && size < 1<<50 && h.Check(size, fileSize) == nil {
			if int64(h.Entries)*int64(h.BlockSize) < size {
				t.Fatalf("accepted a table of %d blocks of %d for %d bytes", h.Entries, h.BlockSize, size)
			}
		}
	})
}
