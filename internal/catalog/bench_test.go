package catalog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/catalog"
	"goldsmith/internal/catalog/catalogtest"
	"goldsmith/internal/event"
)

// bench is a catalog with everything around it.
type bench struct {
	t        *testing.T
	web      *artifacttest.Server
	importer *catalogtest.Importer
	maker    *catalogtest.Maker
	registry *catalog.Memory
	dir      string
	now      time.Time
	cat      *catalog.Catalog

	mu     sync.Mutex
	events []event.Event
}

// built is when the upstream image of a bench was built.
var built = time.Date(2026, 8, 30, 10, 0, 0, 0, time.UTC)

func newBench(t *testing.T) *bench {
	b := &bench{
		t: t, web: artifacttest.New(t), importer: &catalogtest.Importer{}, registry: &catalog.Memory{},
		maker: &catalogtest.Maker{Content: []byte(catalogtest.Magic + "made here")},
		dir:   t.TempDir(), now: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC),
	}
	b.cat = b.open()
	b.publish("first image", built)
	return b
}

// open is another process on the same data.
func (b *bench) open() *catalog.Catalog {
	b.t.Helper()
	f, err := artifact.New(artifact.Config{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, BackoffUnit: time.Millisecond, Attempts: 3,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(f.Close)
	url := b.web.URL
	entry := func(urn string, generation int, s catalog.Source) catalog.Entry {
		u, err := catalog.ParseURN(urn)
		if err != nil {
			b.t.Fatal(err)
		}
		return catalog.Entry{URN: u, Generation: generation, OS: catalog.Linux, Source: s, Shipped: true}
	}
	web := catalog.Source{URL: url + "/disk.qcow2", DigestList: url + "/SUMS", Release: "12.0"}
	c, err := catalog.New(catalog.Options{
		Registry: b.registry, Fetcher: f, Importer: b.importer, Dir: b.dir,
		Makers: map[string]catalog.Maker{"made": b.maker},
		Now:    func() time.Time { return b.now },
		Shipped: []catalog.Entry{
			entry("Debian:debian-12:12-genericcloud:latest", 1, web),
			entry("Debian:debian-12:12-genericcloud-gen2:latest", 2, web),
			entry("Debian:debian-12:12-gen2:latest", 2, catalog.Source{Recipe: "made", Release: "12.0"}),
			entry("Canonical:UbuntuServer:18.04-LTS:latest", 1, web),
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func digestOf(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// publish makes upstream serve an image.
func (b *bench) publish(text string, modified time.Time) []byte {
	content := []byte(catalogtest.Magic + text)
	b.web.Put("/disk.qcow2", artifacttest.File{Body: content, Modified: modified, ETag: fmt.Sprintf("%q", digestOf(content)[:8])})
	b.web.Put("/SUMS", artifacttest.File{Body: []byte(digestOf(content) + "  disk.qcow2\n")})
	return content
}

// Emit keeps events.
func (b *bench) Emit(e event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

func (b *bench) heard(kind event.Kind, word string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Kind == kind && strings.Contains(e.Text, word) {
			return true
		}
	}
	return false
}

func (b *bench) ensure(urn string) catalog.Entry {
	b.t.Helper()
	e, err := b.cat.Ensure(b.t.Context(), b.urn(urn), b)
	if err != nil {
		b.t.Fatal(err)
	}
	if ok, _ := b.importer.Has(b.t.Context(), e.ImageDigest); !ok {
		b.t.Fatalf("%s is not in the image store", e.URN)
	}
	return e
}

func (b *bench) urn(s string) catalog.URN {
	b.t.Helper()
	u, err := catalog.ParseURN(s)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

func (b *bench) downloads() int { return len(b.web.Requests("/disk.qcow2")) - b.heads() }

func (b *bench) heads() int {
	n := 0
	for _, r := range b.web.Requests("/disk.qcow2") {
		if r.Method == http.MethodHead {
			n++
		}
	}
	return n
}

// wantClean checks that nothing half-done is left: no file, no entry that
// stored did not name.
func (b *bench) wantClean(stored ...string) {
	b.t.Helper()
	var left []string
	err := filepath.Walk(b.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		b.t.Errorf("left behind: %v, %v", left, err)
	}
	all, err := b.registry.List(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var have []string
	for _, e := range all {
		have = append(have, e.URN.String())
	}
	if diff := cmp.Diff(stored, have); diff != "" {
		b.t.Error(diff)
	}
}

func wantCode(t *testing.T, err error, code arm.Code, words ...string) {
	t.Helper()
	if arm.CodeOf(err) != code {
		t.Fatalf("error is %q (%v), want code %q", arm.CodeOf(err), err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
