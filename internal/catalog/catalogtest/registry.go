// Package catalogtest has the conformance suite of catalog.Registry, and fakes
// of what a catalog is wired to.
package catalogtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/catalog"
)

// Sample is an entry with every field set.
func Sample(urn string) catalog.Entry {
	u, err := catalog.ParseURN(urn)
	if err != nil {
		panic(err) // a mistake in the test
	}
	d, err := artifact.ParseDigest(strings.Repeat("ab", 32))
	if err != nil {
		panic(err)
	}
	return catalog.Entry{
		URN: u, Title: "a title", Generation: 2, OS: catalog.Linux, Size: 4 << 30, Format: "qcow2",
		Source:      catalog.Source{URL: "https://a.example/x.qcow2", DigestList: "https://a.example/SUMS", Release: "1.0"},
		Digest:      d,
		ImageDigest: "sha256:" + strings.Repeat("cd", 32),
		Shipped:     true,
		AddedAt:     time.Date(2026, 9, 1, 12, 30, 15, 123e6, time.UTC),
		CheckedAt:   time.Date(2026, 9, 2, 12, 30, 15, 456e6, time.UTC),
	}
}

// Conformance checks a Registry; open returns an empty one.
func Conformance(t *testing.T, open func(t *testing.T) catalog.Registry) {
	same := func(t *testing.T, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Millisecond)); diff != "" {
			t.Error(diff)
		}
	}
	notFound := func(t *testing.T, err error) {
		t.Helper()
		if arm.CodeOf(err) != arm.CodeNotFound {
			t.Errorf("error %v, want code %s", err, arm.CodeNotFound)
		}
	}
	put := func(t *testing.T, r catalog.Registry, e catalog.Entry) {
		t.Helper()
		if err := r.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	list := func(t *testing.T, r catalog.Registry) []catalog.Entry {
		t.Helper()
		got, err := r.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	t.Run("empty", func(t *testing.T) {
		r := open(t)
		same(t, []catalog.Entry{}, list(t, r))
		_, err := r.Get(t.Context(), Sample("a:b:c:1.0.0").URN)
		notFound(t, err)
		notFound(t, r.Delete(t.Context(), Sample("a:b:c:1.0.0").URN))
	})
	t.Run("round trip", func(t *testing.T) {
		r := open(t)
		e := Sample("Debian:debian-12:12-gen2:12.0.202609010")
		put(t, r, e)
		got, err := r.Get(t.Context(), e.URN)
		if err != nil {
			t.Fatal(err)
		}
		same(t, e, got)
		bare := catalog.Entry{URN: Sample("x:y:z:1").URN, Generation: 1, OS: catalog.Windows, Source: catalog.Source{File: "/srv/x"}}
		put(t, r, bare)
		got, err = r.Get(t.Context(), bare.URN)
		if err != nil {
			t.Fatal(err)
		}
		same(t, bare, got)
	})
	t.Run("any case", func(t *testing.T) {
		r := open(t)
		put(t, r, Sample("Debian:Debian-12:12-Gen2:1.0.0"))
		again := Sample("debian:debian-12:12-gen2:1.0.0")
		again.Title = "replaced"
		put(t, r, again)
		same(t, []catalog.Entry{again}, list(t, r))
		upper := Sample("DEBIAN:DEBIAN-12:12-GEN2:1.0.0")
		got, err := r.Get(t.Context(), upper.URN)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, got)
		if err := r.Delete(t.Context(), upper.URN); err != nil {
			t.Fatal(err)
		}
		same(t, []catalog.Entry{}, list(t, r))
	})
	t.Run("order", func(t *testing.T) {
		r := open(t)
		for _, urn := range []string{"b:o:s:1.0.0", "A:o:s:2.0.0", "a:o:s:1.0.0"} {
			put(t, r, Sample(urn))
		}
		same(t, []catalog.Entry{Sample("a:o:s:1.0.0"), Sample("A:o:s:2.0.0"), Sample("b:o:s:1.0.0")}, list(t, r))
	})
	t.Run("concurrent", func(t *testing.T) {
		r := open(t)
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := range 8 {
					e := Sample(fmt.Sprintf("p:o:s%d:1.0.%d", worker, i))
					if err := r.Put(t.Context(), e); err != nil {
						t.Error(err)
					}
					if _, err := r.Get(t.Context(), e.URN); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(list(t, r)); n != 32 {
			t.Errorf("%d entries, want 32", n)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		r := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Put(ctx, Sample("a:b:c:1.0.0")); err == nil {
			t.Error("a cancelled Put succeeds")
		}
		same(t, []catalog.Entry{}, list(t, r))
	})
}
