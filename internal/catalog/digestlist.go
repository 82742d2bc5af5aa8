package catalog

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
)

// DigestList is what a SHA256SUMS, SHA512SUMS or CHECKSUM file says.
type DigestList struct{ lines []listed }

type listed struct {
	name   string
	digest artifact.Digest
}

var (
	// coreutils: digest, a space, a space or "*" for binary, name. Names with a
	// line break, escaped by a leading backslash, do not occur and are ignored.
	gnuLine = regexp.MustCompile(`^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{128})[ \t]+\*?(\S.*)$`)
	bsdLine = regexp.MustCompile(`^(?i:SHA-?(256|512)) ?\((.+)\) ?= ?([0-9A-Fa-f]+)$`)
)

// maxListLine is far above any file name.
const maxListLine = 64 << 10

// ParseDigestList reads a digest list in either the GNU ("digest  name") or the
// BSD ("SHA256 (name) = digest") form, plain or clear-signed; lines of neither
// form, such as comments and a signature, are skipped. It fails when there is
// no digest at all, or two for one name.
func ParseDigestList(text []byte) (DigestList, error) {
	var l DigestList
	seen := map[string]artifact.Digest{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxListLine)
	for n := 1; lines.Scan(); n++ {
		name, hex := splitListLine(strings.TrimSpace(lines.Text()))
		if name == "" {
			continue
		}
		d, err := artifact.ParseDigest(hex)
		if err != nil || d.IsZero() {
			continue // a BSD line whose digest has the wrong length
		}
		name = strings.TrimPrefix(name, "./")
		key := d.Algorithm + " " + name
		if old, ok := seen[key]; ok && old != d {
			return DigestList{}, arm.Errorf(arm.CodeFetchFailed, "the digest list has two digests for %q (line %d)", name, n)
		}
		seen[key] = d
		l.lines = append(l.lines, listed{name, d})
	}
	if err := lines.Err(); err != nil {
		return DigestList{}, arm.Errorf(arm.CodeFetchFailed, "the digest list cannot be read: %w", err)
	}
	if len(l.lines) == 0 {
		return DigestList{}, arm.Errorf(arm.CodeFetchFailed, "the digest list has no line with a SHA-256 or SHA-512; is it the right file?")
	}
	return l, nil
}

func splitListLine(line string) (name, hex string) {
	if m := bsdLine.FindStringSubmatch(line); m != nil {
		if (m[1] == "256") == (len(m[3]) == 64) {
			return m[2], m[3]
		}
		return "", ""
	}
	if m := gnuLine.FindStringSubmatch(line); m != nil {
		return m[2], m[1]
	}
	return "", ""
}

// Find returns the digest of the file called name, the stronger one of two.
func (l DigestList) Find(name string) (artifact.Digest, bool) {
	var best artifact.Digest
	for _, e := range l.lines {
		if e.name == name && (best.IsZero() || e.digest.Algorithm == "sha512") {
			best = e.digest
		}
	}
	return best, !best.IsZero()
}

// Names lists the files that have digest d: the names that one content goes by.
func (l DigestList) Names(d artifact.Digest) []string {
	var out []string
	for _, e := range l.lines {
		if e.digest == d {
			out = append(out, e.name)
		}
	}
	return out
}
