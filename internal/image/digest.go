// Package image is the image store: the raw content of disks, cut into chunks
// that are addressed by their digest and stored once, and the views of it in
// every disk format. An image is named by the digest of its index, so equal
// content has one name and whatever is stored can be verified.
package image

import (
	"crypto/sha256"
	"encoding/hex"

	"goldsmith/internal/arm"
)

// Digest is a SHA-256: of a chunk's content, or of an index, which is the
// identity of an image. The zero Digest stands for no content.
type Digest [sha256.Size]byte

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the 64 hexadecimal digits that String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, arm.Errorf(arm.CodeUsage, "%q is not a digest: it would have %d hexadecimal digits", s, hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, arm.Errorf(arm.CodeUsage, "%q is not a digest: %w", s, err)
	}
	return d, nil
}

// String is the digest in lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d stands for no content.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
