package artifact

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"goldsmith/internal/arm"
)

// Digest is a content digest: SHA-256 or SHA-512. The zero Digest is "none".
type Digest struct {
	Algorithm string // "sha256" or "sha512"
	Hex       string // lower case
}

// ParseDigest reads "sha256:HEX", "sha512:HEX", or bare hex whose length tells
// the algorithm, in any case. "" is the zero Digest.
func ParseDigest(s string) (Digest, error) {
	if s == "" {
		return Digest{}, nil
	}
	algorithm, digits, tagged := strings.Cut(strings.ToLower(strings.TrimSpace(s)), ":")
	if !tagged {
		digits, algorithm = algorithm, ""
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return Digest{}, arm.Errorf(arm.CodeUsage, "digest %q is not hexadecimal", s)
	}
	d := Digest{Hex: digits}
	switch len(raw) {
	case sha256.Size:
		d.Algorithm = "sha256"
	case sha512.Size:
		d.Algorithm = "sha512"
	}
	if d.Algorithm == "" || (tagged && algorithm != d.Algorithm) {
		return Digest{}, arm.Errorf(arm.CodeUsage, "digest %q is neither a SHA-256 of 64 hexadecimal digits nor a SHA-512 of 128", s)
	}
	return d, nil
}

// IsZero reports whether d is "none".
func (d Digest) IsZero() bool { return d.Hex == "" }

// String is "algorithm:hex", or "" for none.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Algorithm + ":" + d.Hex
}

// MarshalText is String, for JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func (d Digest) newHash() hash.Hash {
	if d.Algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// Check reads all of r and returns CodeDigestMismatch, naming both digests,
// unless its content has digest d. name says in errors what was read.
func (d Digest) Check(name string, r io.Reader) error {
	h := d.newHash()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("%s cannot be read to verify it: %w", name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != d.Hex {
		return mismatch(name, d.Algorithm, got, d.Hex)
	}
	return nil
}

// CheckFile is Check of the file at path, until ctx ends.
func (d Digest) CheckFile(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return arm.Errorf(arm.CodeFetchFailed, "the file cannot be opened: %w", err).At(path)
	}
	defer f.Close()
	if err := d.Check("the file", &cancelable{ctx: ctx, r: f}); err != nil {
		return permanent(path, err)
	}
	return nil
}

// FileDigest is the SHA-256 of the file at path.
func FileDigest(ctx context.Context, path string) (Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Digest{}, arm.Errorf(arm.CodeFetchFailed, "the file cannot be opened: %w", err).At(path)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancelable{ctx: ctx, r: f}); err != nil {
		return Digest{}, permanent(path, err)
	}
	return Digest{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}, nil
}

func mismatch(name, algorithm, got, want string) *arm.Error {
	return arm.Errorf(arm.CodeDigestMismatch,
		"%s has %s %s but %s was expected: the content changed or the expected digest is wrong", name, algorithm, got, want)
}
