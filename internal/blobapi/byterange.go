package blobapi

import (
	"net/http"
	"strconv"
	"strings"
)

// byteRange is what part of a blob is asked for.
type byteRange struct {
	offset, length int64 // length -1 is to the end
	partial        bool  // whether a part was asked for
}

// readRange reads x-ms-range or Range of a blob of size bytes. What is no range of
// the service's form asks for the whole blob, as there.
func readRange(h http.Header, size int64) (byteRange, error) {
	text := h.Get("x-ms-range")
	if text == "" {
		text = h.Get("Range")
	}
	first, last, ok := parseRange(text)
	if !ok {
		return byteRange{length: size}, nil
	}
	if first >= size {
		return byteRange{}, fail(codeInvalidRange, "the range starts at %d and the blob has %d bytes", first, size)
	}
	if last < 0 || last >= size {
		last = size - 1
	}
	return byteRange{offset: first, length: last - first + 1, partial: true}, nil
}

// parseRange reads "bytes=A-B" or "bytes=A-", for which last is -1.
func parseRange(text string) (first, last int64, ok bool) {
	text, ok = strings.CutPrefix(strings.TrimSpace(text), "bytes=")
	from, to, dash := strings.Cut(text, "-")
	if !ok || !dash || !digits(from) {
		return 0, 0, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	if to == "" {
		return first, -1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	return first, last, err == nil && digits(to) && first <= last
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
