package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

func drawIndex(t *rapid.T) *Index {
	x := &Index{}
	n := int64(0)
	for range rapid.IntRange(0, 20).Draw(t, "chunks") {
		n += rapid.Int64Range(1, 3).Draw(t, "step")
		x.add(n, DigestOf([]byte{byte(n)}))
	}
	x.Size = (n+1)*ChunkSize - 512*rapid.Int64Range(0, 511).Draw(t, "short of")
	return x
}

func TestIndexRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawIndex(t)
		got, err := ParseIndex(x.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		count := int64(0)
		for n := range x.Size/ChunkSize + 2 {
			if !x.Chunk(n).IsZero() {
				count++
			}
		}
		if count != x.Len() {
			t.Fatalf("%d chunks found, Len is %d", count, x.Len())
		}
	})
}

func TestIndexWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawIndex(t)
		cut := disk.Union([]disk.Extent{
			{Start: rapid.Int64Range(0, 40).Draw(t, "a"), Length: rapid.Int64Range(0, 10).Draw(t, "a length")},
			{Start: rapid.Int64Range(0, 40).Draw(t, "b"), Length: rapid.Int64Range(0, 10).Draw(t, "b length")},
		})
		got := assemble(x.Size, x.without(cut), nil, nil)
		for n := range int64(64) {
			want := x.Chunk(n)
			for _, c := range cut {
				if n >= c.Start && n < c.End() {
					want = Digest{}
				}
			}
			if got.Chunk(n) != want {
				t.Fatalf("chunk %d of %v without %v", n, x.Runs, cut)
			}
		}
	})
}

func TestParseIndexRefuses(t *testing.T) {
	x := &Index{Size: 10 * ChunkSize}
	x.add(1, Digest{1})
	x.add(3, Digest{2})
	good := x.Encode()
	change := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	const run = indexHeaderSize
	for name, b := range map[string][]byte{
		"empty":            nil,
		"cut in header":    good[:20],
		"cut in runs":      good[:run+5],
		"cut in digests":   good[:len(good)-1],
		"too long":         append(bytes.Clone(good), 0),
		"other version":    change(7, 2),
		"other chunks":     change(8, 1),
		"no size":          change(12, 0, 0, 0, 0, 0, 0, 0, 0),
		"absurd size":      change(12, 0xff),
		"half a sector":    change(19, 1),
		"many runs":        change(20, 0xff, 0xff, 0xff, 0xff),
		"runs that touch":  change(run+indexRunSize+7, 2),
		"runs in disorder": change(run+7, 8),
		"outside the disk": change(run+indexRunSize+7, 10),
		"far outside":      change(run+indexRunSize, 0xff),
		"empty run":        change(run+11, 0),
		"huge run":         change(run+8, 0xff),
		"no digest":        change(run+2*indexRunSize, 0),
	} {
		if _, err := ParseIndex(b); !arm.IsCode(err, arm.CodeCorrupt) {
			t.Errorf("%s: error %v, want %s", name, err, arm.CodeCorrupt)
		}
	}
	if _, err := ParseIndex(good); err != nil {
		t.Errorf("the index all others were made from is refused: %v", err)
	}
}

func FuzzParseIndex(f *testing.F) {
	x := &Index{Size: 10 * ChunkSize}
	f.Add(x.Encode())
	x.add(1, Digest{1})
	x.add(3, Digest{2})
	f.Add(x.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		if !bytes.Equal(x.Encode(), b) {
			t.Fatal("two forms of one index")
		}
	})
}

func FuzzUnpack(f *testing.F) {
	w, d := newScratch(), Digest{1}
	packed, err := w.pack(d, make([]byte, ChunkSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(packed), false)
	f.Add(bytes.Clone(packed), true)
	plain := make([]byte, ChunkSize)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed && len(b) >= chunkHeaderSize { // as if its writer had meant it
			copy(b[chunkSealAt:], w.seal(d, b))
		}
		err := w.unpack(d, b, plain)
		if _, size, headErr := parseChunkHeader(b); err == nil && (headErr != nil || size != len(b)-chunkHeaderSize) {
			t.Fatal("a chunk with a wrong header was accepted")
		}
	})
}

func TestChunkOfAnotherNameIsRefused(t *testing.T) {
	w := newScratch()
	packed, err := w.pack(Digest{1}, noise(1, ChunkSize))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.unpack(Digest{1}, packed, make([]byte, ChunkSize)); err != nil {
		t.Errorf("the chunk itself: %v", err)
	}
	if err := w.unpack(Digest{2}, packed, make([]byte, ChunkSize)); !errors.Is(err, errDamaged) {
		t.Errorf("under another name: %v, want %v", err, errDamaged)
	}
}

func TestDigestText(t *testing.T) {
	d := DigestOf([]byte("x"))
	b, err := json.Marshal(map[string]Digest{"d": d})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]Digest
	if err := json.Unmarshal(b, &got); err != nil || got["d"] != d {
		t.Errorf("%s became %v, %v", d, got, err)
	}
	for _, s := range []string{"", "12", d.String() + "00", "zz" + d.String()[2:]} {
		if _, err := ParseDigest(s); !arm.IsCode(err, arm.CodeUsage) {
			t.Errorf("%q: error %v, want %s", s, err, arm.CodeUsage)
		}
	}
}

func TestEarlierSeals(t *testing.T) {
	w, d, content := newScratch(), Digest{1}, map[byte][]byte{
		packedPlain: noise(3, ChunkSize),
		packedLZ4:   bytes.Repeat([]byte("four"), ChunkSize/4),
	}
	for kind, earlier := range map[byte]byte{packedPlain: packedPlainSHA, packedLZ4: packedLZ4SHA} {
		packed, err := w.pack(d, content[kind])
		if err != nil {
			t.Fatal(err)
		}
		if packed[3] != kind {
			t.Fatalf("packed as %c, want %c", packed[3], kind)
		}
		b := bytes.Clone(packed)
		b[3] = earlier
		plain := make([]byte, ChunkSize)
		if err := w.unpack(d, b, plain); err == nil {
			t.Errorf("%c: a seal of the other kind was accepted", earlier)
		}
		sum := sha256.Sum256(slices.Concat(d[:], b[:chunkSealAt], b[chunkHeaderSize:]))
		copy(b[chunkSealAt:], sum[:])
		if err := w.unpack(d, b, plain); err != nil || !bytes.Equal(plain, content[kind]) {
			t.Errorf("%c: %v", earlier, err)
		}
	}
}
