package catalog_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/catalog"
	"goldsmith/internal/catalog/catalogtest"
	"goldsmith/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	catalogtest.Conformance(t, func(*testing.T) catalog.Registry { return &catalog.Memory{} })
}

const (
	gen1 = "Debian:debian-12:12-genericcloud"
	gen2 = "Debian:debian-12:12-genericcloud-gen2"
	made = "Debian:debian-12:12-gen2"
)

func TestEnsureShipped(t *testing.T) {
	b := newBench(t)
	e := b.ensure("debian:DEBIAN-12:12-genericcloud:Latest")
	content := []byte(catalogtest.Magic + "first image")
	want := catalog.Entry{
		URN: b.urn(gen1 + ":12.0.202608300"), Generation: 1, OS: catalog.Linux, Size: int64(len(content)), Format: "raw", Shipped: true,
		Source:      catalog.Source{URL: b.web.URL + "/disk.qcow2", DigestList: b.web.URL + "/SUMS", Release: "12.0"},
		Digest:      artifact.Digest{Algorithm: "sha256", Hex: digestOf(content)},
		ImageDigest: "sha256:" + digestOf(content), AddedAt: b.now, CheckedAt: b.now,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	b.wantClean(gen1 + ":12.0.202608300")

	// The other generation is the same disk.
	other := b.ensure(gen2 + ":latest")
	if other.Generation != 2 || other.ImageDigest != e.ImageDigest || b.downloads() != 1 {
		t.Errorf("%+v after %d downloads", other, b.downloads())
	}
	// Its exact version needs nobody.
	b.web.Close()
	if got := b.ensure(gen1 + ":12.0.202608300"); got.ImageDigest != e.ImageDigest {
		t.Errorf("%+v", got)
	}
}

func TestLatest(t *testing.T) {
	b := newBench(t)
	first := b.ensure(gen1 + ":latest")
	second := b.publish("second image", built.AddDate(0, 0, 14))

	b.now = b.now.Add(23 * time.Hour)
	if got := b.ensure(gen1 + ":latest"); got.Version != first.Version || !b.heard(event.Decision, "looked up 23 hours ago") {
		t.Errorf("%s within the allowed age", got.Version)
	}
	b.now = b.now.Add(2 * time.Hour)
	got := b.ensure(gen1 + ":latest")
	if got.Version != "12.0.202609130" || got.Digest.Hex != digestOf(second) {
		t.Errorf("%+v after the allowed age", got)
	}
	// Upstream is away: the newest stored one serves, and says so.
	b.now = b.now.Add(48 * time.Hour)
	b.web.Fail("/SUMS", artifacttest.Status(503), artifacttest.Status(503), artifacttest.Status(503))
	if again := b.ensure(gen1 + ":latest"); again.Version != got.Version || !b.heard(event.Warning, "cannot be looked up") {
		t.Errorf("%s without upstream", again.Version)
	}
	// Pull wants an answer.
	b.web.Fail("/SUMS", artifacttest.Status(404))
	_, err := b.cat.Pull(t.Context(), b.urn(gen1+":latest"), b)
	wantCode(t, err, arm.CodeFetchFailed, "404")
	// Nothing new: no download, but a new look-up time.
	n := b.downloads()
	pulled, err := b.cat.Pull(t.Context(), b.urn(gen1+":latest"), b)
	if err != nil || b.downloads() != n || !pulled.CheckedAt.Equal(b.now) {
		t.Errorf("%+v, %v after %d downloads", pulled, err, b.downloads()-n)
	}
	stored, err := b.registry.Get(t.Context(), pulled.URN)
	if err != nil || !stored.CheckedAt.Equal(b.now) {
		t.Errorf("%+v, %v", stored, err)
	}
	// Another image of the same day is another version.
	b.publish("third image", built.AddDate(0, 0, 14))
	if third, err := b.cat.Pull(t.Context(), b.urn(gen1+":latest"), b); err != nil || third.Version != "12.0.202609131" {
		t.Errorf("%s, %v", third.Version, err)
	}
}

func TestEnsureAgainWhenTheImageIsGone(t *testing.T) {
	b := newBench(t)
	e := b.ensure(gen1 + ":latest")
	b.importer.Forget(e.ImageDigest)
	if again := b.ensure(gen1 + ":latest"); again.Version != e.Version || b.downloads() != 2 {
		t.Errorf("%s after %d downloads", again.Version, b.downloads())
	}
}

func TestRecipe(t *testing.T) {
	b := newBench(t)
	tentative, err := b.cat.Resolve(t.Context(), b.urn(made+":latest"), b)
	if err != nil || tentative.Version != "12.0.202609010" || tentative.ImageDigest != "" {
		t.Fatalf("%+v, %v", tentative, err)
	}
	b.maker.Err = arm.Errorf(arm.CodeMissingTool, "no mmdebstrap")
	_, err = b.cat.Ensure(t.Context(), b.urn(made+":latest"), b)
	wantCode(t, err, arm.CodeMissingTool)
	b.wantClean()
	b.maker.Err = nil

	e := b.ensure(made + ":latest")
	if e.Version != "12.0.202609010" || e.Generation != 2 {
		t.Errorf("%+v", e)
	}
	b.now = b.now.AddDate(0, 2, 0) // it does not age
	if again := b.ensure(made + ":latest"); again.Version != e.Version || b.maker.Made() != 1 {
		t.Errorf("%s after %d makings", again.Version, b.maker.Made())
	}
	b.wantClean(made + ":12.0.202609010")
	_, err = b.cat.Ensure(t.Context(), b.urn(made+":12.0.1"), b)
	wantCode(t, err, arm.CodeNotFound, "12.0.202609010")
	if _, err := b.cat.Remove(t.Context(), b.urn(made+":latest")); err != nil {
		t.Fatal(err)
	}
	_, err = b.cat.Remove(t.Context(), b.urn(made+":latest"))
	wantCode(t, err, arm.CodeNotAllowed, "comes with the program")
}

func TestFailedPullsLeaveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(b *bench)
		code    arm.Code
		word    string
	}{
		"wrong digest": {func(b *bench) {
			b.web.Put("/SUMS", artifacttest.File{Body: []byte(strings.Repeat("ab", 32) + "  disk.qcow2\n")})
		}, arm.CodeDigestMismatch, strings.Repeat("ab", 32)},
		"not listed": {func(b *bench) {
			b.web.Put("/SUMS", artifacttest.File{Body: []byte(strings.Repeat("ab", 32) + "  other.qcow2\n")})
		}, arm.CodeFetchFailed, "disk.qcow2"},
		"no list":      {func(b *bench) { b.web.Put("/SUMS", artifacttest.File{Body: []byte("<html>")}) }, arm.CodeFetchFailed, "no line"},
		"huge list":    {func(b *bench) { b.web.Fail("/SUMS", artifacttest.Endless(0)) }, arm.CodeTooLarge, "/SUMS"},
		"list is away": {func(b *bench) { b.web.Fail("/SUMS", artifacttest.Status(404)) }, arm.CodeFetchFailed, "/SUMS"},
		"not a disk":   {func(b *bench) { b.publishRaw([]byte("qcow2 of sorts")) }, arm.CodeMalformedImage, "12-genericcloud"},
		"import fails": {func(b *bench) {
			b.importer.Before = func(context.Context) error { return arm.Errorf(arm.CodeNoSpace, "full") }
		}, arm.CodeNoSpace, "full"},
		"redirect to us": {func(b *bench) { b.web.Fail("/SUMS", artifacttest.Redirect("http://127.0.0.2/")) }, arm.CodeFetchRefused, "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c.arrange(b)
			_, err := b.cat.Ensure(t.Context(), b.urn(gen1+":latest"), b)
			wantCode(t, err, c.code, c.word)
			b.wantClean()
		})
	}
}

func (b *bench) publishRaw(content []byte) {
	b.web.Put("/disk.qcow2", artifacttest.File{Body: content, Modified: built})
	b.web.Put("/SUMS", artifacttest.File{Body: []byte(digestOf(content) + "  disk.qcow2\n")})
}

// Upstream replaces list and image between our two requests.
func TestPullRacesWithUpstream(t *testing.T) {
	b := newBench(t)
	first := []byte(digestOf([]byte(catalogtest.Magic+"first image")) + "  disk.qcow2\n")
	second := b.publish("second image", built.AddDate(0, 0, 1))
	b.web.Fail("/SUMS", func(w http.ResponseWriter, _ *http.Request, _ artifacttest.File) {
		_, _ = w.Write(first) // the client may be gone
	})
	if e := b.ensure(gen1 + ":latest"); e.Digest.Hex != digestOf(second) {
		t.Errorf("%+v", e)
	}
}

func TestCancelledPullContinues(t *testing.T) {
	b := newBench(t)
	content := b.publish(strings.Repeat("big", 1<<20), built)
	b.web.Fail("/disk.qcow2", nil, artifacttest.Cut(1<<20)) // HEAD, then GET
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.cat.Ensure(ctx, b.urn(gen1+":latest"), event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Warning {
			cancel()
		}
	}))
	wantCode(t, err, arm.CodeCanceled)
	if all, _ := b.registry.List(t.Context()); len(all) != 0 || b.importer.Imports() != 0 {
		t.Errorf("half an image is stored: %v", all)
	}
	e := b.ensure(gen1 + ":latest")
	if e.Size != int64(len(content)) {
		t.Errorf("%+v", e)
	}
	gets := b.web.Requests("/disk.qcow2")
	if r := gets[len(gets)-1].Header.Get("Range"); r != "bytes=1048576-" {
		t.Errorf("the second attempt asked for %q", r)
	}
	b.wantClean(e.URN.String())
	if err := b.cat.Prune(0); err != nil {
		t.Error(err)
	}
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	b := newBench(t)
	asked, release := make(chan struct{}), make(chan struct{})
	b.web.Fail("/disk.qcow2", nil, func(w http.ResponseWriter, r *http.Request, f artifacttest.File) {
		close(asked)
		artifacttest.Wait(release)(w, r, f)
	})
	results := make(chan error, 3)
	pull := func(sink event.Sink, urn string) {
		_, err := b.open().Ensure(t.Context(), b.urn(urn), sink)
		results <- err
	}
	go pull(b, gen1+":latest")
	<-asked
	waiting := make(chan struct{}, 2)
	hears := event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Info && strings.Contains(e.Text, "waiting for another process") {
			waiting <- struct{}{}
		}
	})
	go pull(hears, gen1+":latest")
	go pull(hears, gen2+":latest")
	<-waiting
	<-waiting
	close(release)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if b.downloads() != 1 || b.importer.Imports() != 1 {
		t.Errorf("%d downloads, %d imports", b.downloads(), b.importer.Imports())
	}
	b.wantClean(gen2+":12.0.202608300", gen1+":12.0.202608300")
}

func TestNotFound(t *testing.T) {
	b := newBench(t)
	for urn, words := range map[string][]string{
		"Cannonical:UbuntuServer:18.04-LTS:latest":            {"did you mean Canonical:UbuntuServer:18.04-LTS?"},
		"debian:debian-12:11:latest":                          {"Debian:debian-12:12-gen2"},
		"Canonical:something-completely-different:x:latest":   {"near it are Canonical:UbuntuServer:18.04-LTS"},
		"MicrosoftWindowsServer:WindowsServer:2019-Dc:latest": {"not in the catalog;", "goldsmith catalog add"},
		gen1 + ":11.0.0": {"has no version 11.0.0 here", "12.0.202608300"},
	} {
		_, err := b.cat.Resolve(t.Context(), b.urn(urn), b)
		wantCode(t, err, arm.CodeNotFound, words...)
		_, err = b.cat.Get(t.Context(), b.urn(urn))
		wantCode(t, err, arm.CodeNotFound)
		_, err = b.cat.Remove(t.Context(), b.urn(urn))
		wantCode(t, err, arm.CodeNotFound)
	}
	_, err := b.cat.Resolve(t.Context(), catalog.URN{Publisher: "a b"}, nil)
	wantCode(t, err, arm.CodeUsage)
}

func TestListOrder(t *testing.T) {
	b := newBench(t)
	b.ensure(gen1 + ":latest")
	b.publish("second", built.AddDate(0, 0, 3))
	if _, err := b.cat.Pull(t.Context(), b.urn(gen1+":latest"), nil); err != nil {
		t.Fatal(err)
	}
	all, err := b.cat.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.URN.String())
	}
	want := []string{
		"Canonical:UbuntuServer:18.04-LTS:latest",
		made + ":latest",
		gen2 + ":latest",
		gen1 + ":latest", gen1 + ":12.0.202609020", gen1 + ":12.0.202608300",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if e, err := b.cat.Get(t.Context(), b.urn(gen1+":latest")); err != nil || e.Version != "12.0.202609020" {
		t.Errorf("%s, %v", e.Version, err)
	}
	if e, err := b.cat.Get(t.Context(), b.urn(gen2+":latest")); err != nil || !e.IsLatest() {
		t.Errorf("%s, %v", e.Version, err)
	}
}

func TestRegistryFailureStoresNothing(t *testing.T) {
	b := newBench(t)
	broken := errors.New("disk on fire")
	c, err := catalog.New(catalog.Options{
		Registry: failing{b.registry, broken}, Importer: b.importer, Dir: b.dir, Makers: map[string]catalog.Maker{"made": b.maker},
		Shipped: []catalog.Entry{{URN: b.urn(made + ":latest"), Generation: 2, OS: catalog.Linux, Source: catalog.Source{Recipe: "made", Release: "12.0"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ensure(t.Context(), b.urn(made+":latest"), nil); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	b.wantClean()
}

type failing struct {
	catalog.Registry
	err error
}

func (f failing) Put(context.Context, catalog.Entry) error { return f.err }
