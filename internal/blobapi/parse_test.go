package blobapi

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

func TestRanges(t *testing.T) {
	for _, tt := range []struct {
		text string
		size int64
		want byteRange
		bad  bool
	}{
		{"", 10, byteRange{0, 10, false}, false},
		{"bytes=0-0", 10, byteRange{0, 1, true}, false},
		{"bytes=2-", 10, byteRange{2, 8, true}, false},
		{"bytes=2-99", 10, byteRange{2, 8, true}, false},
		{"bytes=9-9", 10, byteRange{9, 1, true}, false},
		{"bytes=10-", 10, byteRange{}, true},
		{"bytes=0-", 0, byteRange{}, true},
		{"bytes=3-2", 10, byteRange{0, 10, false}, false},
		{"bytes=-5", 10, byteRange{0, 10, false}, false},
		{"bytes=+1-2", 10, byteRange{0, 10, false}, false},
		{"bytes=1-2,4-5", 10, byteRange{0, 10, false}, false},
		{"bytes=99999999999999999999-", 10, byteRange{0, 10, false}, false},
		{"lines=1-2", 10, byteRange{0, 10, false}, false},
	} {
		for _, name := range []string{"Range", "X-Ms-Range"} {
			h := http.Header{name: {tt.text}}
			if name != "Range" {
				h.Set("Range", "bytes=1-1") // x-ms-range comes first
			}
			if tt.text == "" {
				h = http.Header{}
			}
			got, err := readRange(h, tt.size)
			if arm.IsCode(err, codeInvalidRange) != tt.bad || got != tt.want {
				t.Errorf("%s of %d: %+v, %v", tt.text, tt.size, got, err)
			}
		}
	}
}

func TestBlockLists(t *testing.T) {
	got, err := parseBlockList([]byte("\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList><Latest>YQ==</Latest> <Committed>Yg==</Committed><Uncommitted>Yw==</Uncommitted></BlockList>\n"))
	want := []blob.BlockRef{{ID: "a"}, {ID: "b", Source: blob.Committed}, {ID: "c", Source: blob.Uncommitted}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestConditions(t *testing.T) {
	changed := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	const etag = `"0x1"`
	for _, tt := range []struct {
		header, value string
		read, write   arm.Code
	}{
		{"If-Match", etag, "", ""},
		{"If-Match", "0x1", "", ""},
		{"If-Match", `"0x2", "0x1"`, "", ""},
		{"If-Match", `"0x2"`, codeConditionNotMet, codeConditionNotMet},
		{"If-Match", "*", "", ""},
		{"If-None-Match", etag, codeNotModified, codeConditionNotMet},
		{"If-None-Match", "*", codeNotModified, codeBlobExists},
		{"If-None-Match", `"0x2"`, "", ""},
		{"If-Modified-Since", httpTime(changed), codeNotModified, codeConditionNotMet},
		{"If-Modified-Since", httpTime(changed.Add(-time.Second)), "", ""},
		{"If-Unmodified-Since", httpTime(changed), "", ""},
		{"If-Unmodified-Since", httpTime(changed.Add(-time.Second)), codeConditionNotMet, codeConditionNotMet},
		{"If-Modified-Since", "yesterday", "", ""},
	} {
		c := readConditions(http.Header{tt.header: {tt.value}}, "")
		for reading, want := range map[bool]arm.Code{true: tt.read, false: tt.write} {
			if got := arm.CodeOf(c.check(true, etag, changed, reading)); got != want {
				t.Errorf("%s: %s, reading %v: %q, want %q", tt.header, tt.value, reading, got, want)
			}
		}
	}
	if got := arm.CodeOf(readConditions(http.Header{"If-Match": {"*"}}, "").check(false, "", time.Time{}, false)); got != codeConditionNotMet {
		t.Errorf("If-Match of nothing: %q", got)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=5-", "bytes=-1", "bytes=9223372036854775807-9223372036854775807", ""} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			return
		}
		r, err := readRange(http.Header{"Range": {text}}, size)
		if err == nil && (r.offset < 0 || r.length < 0 || r.offset+r.length > size || r.partial && r.length == 0) {
			t.Errorf("%q of %d: %+v", text, size, r)
		}
	})
}

func FuzzParseBlockList(f *testing.F) {
	f.Add([]byte("<BlockList><Latest>YQ==</Latest></BlockList>"))
	f.Add([]byte("<BlockList><Latest>YQ==</Latest>&x;</BlockList><y/>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		refs, err := parseBlockList(raw)
		for _, r := range refs {
			if err != nil || len(r.ID) == 0 || len(r.ID) > blob.MaxBlockID {
				t.Errorf("%q: %+v, %v", raw, r, err)
			}
		}
	})
}

func FuzzParsePolicies(f *testing.F) {
	f.Add([]byte("<SignedIdentifiers><SignedIdentifier><Id>a</Id><AccessPolicy><Start>2020-01-01</Start></AccessPolicy></SignedIdentifier></SignedIdentifiers>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if policies, err := parsePolicies(raw); err == nil && len(policies) > maxPolicies {
			t.Errorf("%d policies", len(policies))
		}
	})
}

func FuzzParseKeyInfo(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Add([]byte("<KeyInfo><Start>2026-01-01T00:00:00Z</Start><Expiry>2026-01-02</Expiry></KeyInfo>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if d, err := parseKeyInfo(raw, now); err == nil && (d.Expiry.Before(now) || d.Expiry.Sub(d.Start) > 7*24*time.Hour) {
			t.Errorf("%+v", d)
		}
	})
}
