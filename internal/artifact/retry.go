package artifact

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// maxRetryAfter caps how long a server can make a fetch wait between attempts.
const maxRetryAfter = time.Minute

// transient marks an error that another attempt may cure, after at least the
// time the server asked for.
type transient struct {
	err   error
	after time.Duration
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// attempts runs op until it succeeds, fails for good, or the tries or the
// context are used up. Each failed try is reported to sink, which may be nil, in
// the real service's words. op may call progressed when it brought something new: tries
// are counted from there, so a big download over a bad line still ends.
func (f *Fetcher) attempts(ctx context.Context, name string, sink event.Sink, op func(ctx context.Context, progressed func()) error) error {
	if sink == nil {
		sink = event.Discard
	}
	start := time.Now()
	var failures []string
	n := 0
	for {
		n++
		err := op(ctx, func() { n = 1; failures = nil })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ended(ctx, name, failures)
		}
		failures = append(failures, cause(err).Error())
		var t *transient
		if !errors.As(err, &t) {
			return permanent(name, err)
		}
		if n >= f.cfg.Attempts {
			return exhausted(name, failures, time.Since(start), t.err)
		}
		wait := f.backoff(n, t.after)
		sink.Emit(event.Event{Kind: event.Warning, Target: name, Text: fmt.Sprintf(
			"Downloading external file (%s) [attempt %d of %d] failed: %v; trying again in %s",
			name, n, f.cfg.Attempts, cause(err), wait.Round(time.Millisecond))})
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ended(ctx, name, failures)
		}
	}
}

// backoff is the delay after the n-th failed try: exponential with full jitter,
// so that many builds hit by one outage do not return together.
func (f *Fetcher) backoff(n int, atLeast time.Duration) time.Duration {
	ceiling := f.cfg.BackoffUnit << min(n-1, 5)
	return max(ceiling/2+rand.N(ceiling/2+1), min(atLeast, maxRetryAfter))
}

func permanent(name string, err error) error {
	var e *arm.Error
	if errors.As(err, &e) {
		if e.Target != "" {
			return e
		}
		return e.At(name)
	}
	return arm.Errorf(arm.CodeFetchFailed, "the download failed: %w", cause(err)).At(name)
}

func exhausted(name string, failures []string, took time.Duration, last error) error {
	return (&arm.Error{
		Code: arm.CodeFetchFailed,
		Message: fmt.Sprintf("the download failed in all %d attempts within %s: %s; check the address and that the server is up",
			len(failures), took.Round(100*time.Millisecond), collapse(failures)),
		Err: last,
	}).At(name)
}

// errSlow is why a fetch's own time limit ended it.
var errSlow = errors.New("time limit")

// ended explains a fetch whose context is done.
func ended(ctx context.Context, name string, failures []string) error {
	tried := ""
	if len(failures) > 0 {
		tried = " after " + collapse(failures)
	}
	why := context.Cause(ctx)
	switch {
	case errors.Is(why, errSlow):
		return arm.Errorf(arm.CodeFetchFailed, "the download was given up: it did not end within its %w%s", why, tried).At(name)
	case errors.Is(why, context.DeadlineExceeded):
		return arm.Errorf(arm.CodeTimeout, "the time ran out during the download%s: %w", tried, why).At(name)
	}
	return arm.Errorf(arm.CodeCanceled, "the download was cancelled%s: %w", tried, ctx.Err()).At(name)
}

// collapse lists the failures by attempt, equal neighbours as one.
func collapse(failures []string) string {
	var out []string
	for i := 0; i < len(failures); {
		j := i
		for j+1 < len(failures) && failures[j+1] == failures[i] {
			j++
		}
		if i == j {
			out = append(out, fmt.Sprintf("attempt %d: %s", i+1, failures[i]))
		} else {
			out = append(out, fmt.Sprintf("attempts %d-%d: %s", i+1, j+1, failures[i]))
		}
		i = j + 1
	}
	return strings.Join(out, "; ")
}

// classify turns an error of sending a request into one that is transient or not.
func classify(err error) error {
	var certificate *tls.CertificateVerificationError
	var lookup *net.DNSError
	switch {
	case refused(err):
		return err
	case errors.As(err, &certificate):
		return arm.Errorf(arm.CodeFetchFailed, "the server's certificate is not trusted: %w; if its authority is your own, name it with --ca-file", cause(err))
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return arm.Errorf(arm.CodeFetchFailed, "host %s does not exist: %w", lookup.Name, cause(err))
	}
	return &transient{err: cause(err)}
}

// statusError explains a response that is not content.
func statusError(resp *http.Response, now time.Time) error {
	err := fmt.Errorf("the server answered %s", resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		return &transient{err: err, after: retryAfter(resp.Header.Get("Retry-After"), now)}
	case code == http.StatusNotFound, code == http.StatusGone:
		return arm.Errorf(arm.CodeFetchFailed, "%w: nothing is there; check the address", err)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return arm.Errorf(arm.CodeFetchFailed, "%w: the content is not public; give a URI with a valid signature (SAS)", err)
	}
	return arm.Errorf(arm.CodeFetchFailed, "%w", err)
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date.
// What does not parse is 0.
func retryAfter(header string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(strings.TrimSpace(header), 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
