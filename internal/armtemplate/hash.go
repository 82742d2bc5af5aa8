package armtemplate

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/google/uuid"
)

func init() {
	register(map[string]function{
		"uniqueString": {1, -1, (*arguments).unique},
		"guid":         {1, -1, (*arguments).guid},
	})
}

// guidNamespace is the namespace of the version 5 UUIDs that guid() makes.
var guidNamespace = uuid.MustParse("11fb06fb-712d-4ddd-98c7-e71bbd588830")

func (a *arguments) guid() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	return text(uuid.NewSHA1(guidNamespace, []byte(strings.Join(words, "-"))).String()), nil
}

// unique is a hash of its arguments as 13 characters, the same as in Azure: names
// that depend on it stay what they were.
func (a *arguments) unique() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	h := murmur([]byte(strings.Join(words, "-")))
	var out [13]byte
	for i := range out {
		out[i] = letters[h>>59]
		h <<= 5
	}
	return text(string(out[:])), nil
}

// murmur is the hash of 64 bits that uniqueString uses: two lanes of MurmurHash3's
// variant for 128 bits on 32-bit machines.
func murmur(data []byte) uint64 {
	const c1, c2 = 0x239b961b, 0xab0e9789
	var h1, h2 uint32
	first := func(k uint32) uint32 { return bits.RotateLeft32(k*c1, 15) * c2 }
	second := func(k uint32) uint32 { return bits.RotateLeft32(k*c2, 17) * c1 }
	rest := data
	for ; len(rest) >= 8; rest = rest[8:] {
		h1 ^= first(binary.LittleEndian.Uint32(rest))
		h1 = (bits.RotateLeft32(h1, 19)+h2)*5 + 0x561ccd1b
		h2 ^= second(binary.LittleEndian.Uint32(rest[4:]))
		h2 = (bits.RotateLeft32(h2, 13)+h1)*5 + 0x0bcaa747
	}
	var tail [8]byte
	copy(tail[:], rest)
	if len(rest) > 4 {
		h2 ^= second(binary.LittleEndian.Uint32(tail[4:]))
	}
	if len(rest) > 0 {
		h1 ^= first(binary.LittleEndian.Uint32(tail[:]))
	}
	h1 ^= uint32(len(data))
	h2 ^= uint32(len(data))
	h1 += h2
	h2 += h1
	h1, h2 = mix(h1), mix(h2)
	h1 += h2
	h2 += h1
	return uint64(h2)<<32 | uint64(h1)
}

func mix(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
