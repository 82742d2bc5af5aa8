package blob

import (
	"net/url"
	"strings"
)

// A blob's key in the bucket is a path of safe file names. Directories end in
// "~" where the name has a slash, so that the blobs "a" and "a/b" can both be
// there, and in "=" where a file name would grow too long and goes on in the next
// segment. Everything unusual is percent-encoded.

const (
	maxSegment = 180 // bytes; file systems allow 255
	// tempPrefix starts the names of the bucket's temporary files, which stay
	// behind when a writer is killed; no key's last segment starts with it.
	tempPrefix = "fileblob"
	attrsExt   = ".attrs" // ends the names of the bucket's own metadata files
)

func encodeKey(blob string) string {
	segments := strings.Split(blob, "/")
	var key strings.Builder
	for i, segment := range segments {
		last := i == len(segments)-1
		safe := escapeSegment(segment)
		if rest, found := strings.CutSuffix(safe, attrsExt); found && last {
			safe = rest + "%2E" + attrsExt[1:]
		}
		for len(safe) > maxSegment {
			key.WriteString(safe[:maxSegment] + "=/")
			safe = safe[maxSegment:]
		}
		if !last {
			key.WriteString(safe + "~/")
			continue
		}
		if rest, found := strings.CutPrefix(safe, tempPrefix); found {
			safe = "%66" + tempPrefix[1:] + rest
		}
		key.WriteString(safe)
	}
	return key.String()
}

func escapeSegment(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' ||
			// The bucket gives a double underscore a meaning of its own.
			c == '_' && (i == 0 || s[i-1] != '_')
		if plain {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

// decodeKey reverses encodeKey; ok is false for what encodeKey does not make.
func decodeKey(key string) (blob string, ok bool) {
	segments := strings.Split(key, "/")
	var escaped strings.Builder
	for i, segment := range segments {
		if i == len(segments)-1 {
			escaped.WriteString(segment)
			break
		}
		if part, found := strings.CutSuffix(segment, "~"); found {
			escaped.WriteString(part + "/")
		} else {
			escaped.WriteString(strings.TrimSuffix(segment, "="))
		}
	}
	blob, err := url.PathUnescape(escaped.String())
	return blob, err == nil && encodeKey(blob) == key
}
