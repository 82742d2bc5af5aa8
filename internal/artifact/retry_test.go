package artifact

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"goldsmith/internal/arm"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		" 7 ":                           7 * time.Second,
		"-7":                            0,
		"7.5":                           0,
		"99999999999999999999":          0,
		"soon":                          0,
		"Tue, 01 Sep 2026 12:00:30 GMT": 30 * time.Second,
		"Tue, 01 Sep 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestBackoffIsBoundedAndGrows(t *testing.T) {
	f := &Fetcher{cfg: Config{BackoffUnit: 250 * time.Millisecond}}
	var most time.Duration
	for n := 1; n < DefaultAttempts; n++ {
		ceiling := f.cfg.BackoffUnit << min(n-1, 5)
		most += ceiling
		for range 50 {
			if d := f.backoff(n, 0); d < ceiling/2 || d > ceiling {
				t.Fatalf("delay %d is %s, want %s to %s", n, d, ceiling/2, ceiling)
			}
		}
	}
	if most > 45*time.Second {
		t.Errorf("all delays together take up to %s", most)
	}
	if d := f.backoff(1, 5*time.Second); d != 5*time.Second {
		t.Errorf("Retry-After of 5 s gives %s", d)
	}
	if d := f.backoff(1, 24*time.Hour); d != maxRetryAfter {
		t.Errorf("Retry-After of a day gives %s", d)
	}
}

func TestCollapse(t *testing.T) {
	got := collapse([]string{"a", "a", "a", "b", "a"})
	if want := "attempts 1-3: a; attempt 4: b; attempt 5: a"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStatusError(t *testing.T) {
	for code, retried := range map[int]bool{
		400: false, 401: false, 403: false, 404: false, 410: false, 418: false, 304: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 599: true,
	} {
		err := statusError(&http.Response{StatusCode: code, Status: http.StatusText(code)}, time.Now())
		var t1 *transient
		if errors.As(err, &t1) != retried {
			t.Errorf("status %d: %v", code, err)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("120", "bytes 0-9/10", "Tue, 01 Sep 2026 12:00:30 GMT")
	f.Add("x", "bytes */10", "")
	f.Add("", "bytes 5-2/*", "0")
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, after, span, date string) {
		if retryAfter(after, now) < 0 || retryAfter(date, now) < 0 {
			t.Error("a negative delay")
		}
		r, ok := parseContentRange(span)
		if ok && (r.first > r.last || (r.total >= 0 && r.last >= r.total && r.first >= 0)) {
			t.Errorf("%q is taken for %+v", span, r)
		}
	})
}

func TestContentRange(t *testing.T) {
	for in, want := range map[string]contentRange{
		"bytes 0-9/10":    {0, 9, 10},
		"Bytes 5-5/*":     {5, 5, -1},
		"bytes */47":      {-1, -1, 47},
		" bytes 2-3/100 ": {2, 3, 100},
	} {
		if got, ok := parseContentRange(in); !ok || got != want {
			t.Errorf("%q is %+v, %t", in, got, ok)
		}
	}
	for _, in := range []string{"", "bytes", "bytes 1-2", "lines 1-2/3", "bytes 9-1/10", "bytes 0-10/10", "bytes -5-6/9", "bytes a-b/c"} {
		if got, ok := parseContentRange(in); ok {
			t.Errorf("%q is taken for %+v", in, got)
		}
	}
}

func TestStorageErrorCodes(t *testing.T) {
	wantCode(t, storageError("/d", errNoSpace), arm.CodeNoSpace, "/d", "full")
	wantCode(t, storageError("/d", errors.New("x")), arm.CodeInternal, "/d")
	if storageError("/d", nil) != nil {
		t.Error("nil became an error")
	}
}
