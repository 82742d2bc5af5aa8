package blobapi

import (
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// conditions of a request; their zero value always holds.
type conditions struct {
	match, noneMatch     string // entity tags or "*"
	modified, unmodified time.Time
	code                 arm.Code // of a condition that does not hold
}

// readConditions reads the conditional headers; prefix is "" or "x-ms-source-".
// A date that does not parse is ignored, as in RFC 9110.
func readConditions(h http.Header, prefix string) conditions {
	date := func(name string) time.Time {
		t, _ := http.ParseTime(h.Get(prefix + name))
		return t
	}
	code := codeConditionNotMet
	if prefix != "" {
		code = codeSourceCondition
	}
	return conditions{
		match: h.Get(prefix + "If-Match"), noneMatch: h.Get(prefix + "If-None-Match"),
		modified: date("If-Modified-Since"), unmodified: date("If-Unmodified-Since"), code: code,
	}
}

// matches reports whether one of the tags in list is etag, or list is "*".
func matches(list, etag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.Trim(one, `"`) == strings.Trim(etag, `"`) {
			return true
		}
	}
	return false
}

// check says why the conditions do not hold for something with this tag and time,
// of which exists says whether it is there.
func (c conditions) check(exists bool, etag string, changed time.Time, reading bool) error {
	unmet := func(why string) error { return fail(c.code, "%s", why) }
	changed = changed.Truncate(time.Second) // as precise as the headers
	if !exists {
		if c.match != "" {
			return unmet("there is no such blob")
		}
		return nil
	}
	switch {
	case c.match != "" && !matches(c.match, etag):
		return unmet("If-Match: the entity tag is " + etag)
	case !c.unmodified.IsZero() && changed.After(c.unmodified):
		return unmet("If-Unmodified-Since: it was changed at " + httpTime(changed))
	case c.noneMatch != "" && matches(c.noneMatch, etag):
		if reading {
			return fail(codeNotModified, "it was not modified")
		}
		if c.noneMatch == "*" {
			return fail(codeBlobExists, "If-None-Match is *")
		}
		return unmet("If-None-Match: the entity tag is " + etag)
	case !c.modified.IsZero() && c.noneMatch == "" && !changed.After(c.modified):
		if reading {
			return fail(codeNotModified, "it was not modified")
		}
		return unmet("If-Modified-Since: it was changed at " + httpTime(changed))
	}
	return nil
}

// write is the conditions of a request as the store asks for them.
func (c conditions) write(current *blob.Info) error {
	if current == nil {
		return c.check(false, "", time.Time{}, false)
	}
	return c.check(true, current.ETag, current.ModTime, false)
}

func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
