package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/catalog"
	"goldsmith/internal/catalog/catalogtest"
	"goldsmith/internal/event"
)

func TestAdd(t *testing.T) {
	b := newBench(t)
	bios := filepath.Join(t.TempDir(), "bios.img")
	uefi := bios + ".uefi"
	content := []byte(catalogtest.Magic + "mine")
	for file, c := range map[string][]byte{bios: content, uefi: []byte(catalogtest.Magic + catalogtest.ESP)} {
		if err := os.WriteFile(file, c, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add := func(urn, from string, o catalog.AddOptions) (catalog.Entry, error) {
		return b.cat.Add(t.Context(), b.urn(urn), from, o, b)
	}
	e, err := add("me:linux:a:1.0.0", bios, catalog.AddOptions{Digest: strings.ToUpper(digestOf(content)), Title: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	want := catalog.Entry{
		URN: b.urn("me:linux:a:1.0.0"), Title: "mine", Generation: 1, OS: catalog.Linux, Size: int64(len(content)), Format: "raw",
		Source: catalog.Source{File: bios}, Digest: artifact.Digest{Algorithm: "sha256", Hex: digestOf(content)},
		ImageDigest: "sha256:" + digestOf(content), AddedAt: b.now,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	if e, err := add("me:linux:a:1.10.0", uefi, catalog.AddOptions{}); err != nil || e.Generation != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := add("me:linux:a:1.9.0", uefi, catalog.AddOptions{Generation: 1, OS: catalog.Windows}); err != nil || e.Generation != 1 || e.OS != catalog.Windows {
		t.Errorf("%+v, %v", e, err)
	}
	if e := b.ensure("ME:linux:a:latest"); e.Version != "1.10.0" {
		t.Errorf("latest is %s", e.Version)
	}
	if e := b.ensure("me:linux:a:1"); e.Version != "1.0.0" {
		t.Errorf("1 is %s", e.Version)
	}

	_, err = add("ME:Linux:a:1.0.0", bios, catalog.AddOptions{})
	wantCode(t, err, arm.CodeConflict, bios)
	if _, err := add("ME:Linux:a:1.0.0", uefi, catalog.AddOptions{Replace: true}); err != nil {
		t.Error(err)
	}
	sum := digestOf([]byte("other"))
	for name, c := range map[string]struct {
		urn, from string
		o         catalog.AddOptions
		code      arm.Code
		word      string
	}{
		"latest":       {"me:x:y:latest", bios, catalog.AddOptions{}, arm.CodeUsage, "exact version"},
		"no file":      {"me:x:y:1.0.0", bios + ".missing", catalog.AddOptions{}, arm.CodeFetchFailed, "missing"},
		"nothing":      {"me:x:y:1.0.0", "", catalog.AddOptions{}, arm.CodeUsage, "no file"},
		"scheme":       {"me:x:y:1.0.0", "ftp://h/x", catalog.AddOptions{}, arm.CodeUsage, "ftp"},
		"generation":   {"me:x:y:1.0.0", bios, catalog.AddOptions{Generation: 3}, arm.CodeUsage, "generation is 3"},
		"system":       {"me:x:y:1.0.0", bios, catalog.AddOptions{OS: "plan9"}, arm.CodeUsage, "plan9"},
		"digest":       {"me:x:y:1.0.0", bios, catalog.AddOptions{Digest: "zz"}, arm.CodeUsage, "zz"},
		"wrong digest": {"me:x:y:1.0.0", bios, catalog.AddOptions{Digest: sum}, arm.CodeDigestMismatch, sum},
		"wrong, web":   {"me:x:y:1.0.0", b.web.URL + "/disk.qcow2", catalog.AddOptions{Digest: sum}, arm.CodeDigestMismatch, sum},
		"not a disk":   {"me:x:y:1.0.0", b.web.URL + "/SUMS", catalog.AddOptions{}, arm.CodeMalformedImage, "/SUMS"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := add(c.urn, c.from, c.o)
			wantCode(t, err, c.code, c.word)
			_, err = b.registry.Get(t.Context(), b.urn("me:x:y:1.0.0"))
			wantCode(t, err, arm.CodeNotFound)
		})
	}
	web, err := add("me:x:y:1.0.0", b.web.URL+"/disk.qcow2?sig=SECRET", catalog.AddOptions{})
	if err != nil || strings.Contains(web.Source.URL, "SECRET") || web.Digest.Hex != digestOf([]byte(catalogtest.Magic+"first image")) {
		t.Errorf("%+v, %v", web, err)
	}
	if !b.heard(event.Warning, "plain http") {
		t.Error("plain http without a digest goes unmentioned")
	}
	b.wantClean("ME:Linux:a:1.0.0", "me:linux:a:1.10.0", "me:linux:a:1.9.0", "me:x:y:1.0.0")
}

// An added file that lost its image is imported again, unless it changed.
func TestAddedFileIsVerifiedAgain(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(t.TempDir(), "a.img")
	if err := os.WriteFile(file, []byte(catalogtest.Magic), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := b.cat.Add(t.Context(), b.urn("me:x:y:1.0.0"), file, catalog.AddOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.importer.Forget(e.ImageDigest)
	b.ensure("me:x:y:1.0.0")
	b.importer.Forget(e.ImageDigest)
	if err := os.WriteFile(file, []byte(catalogtest.Magic+"changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = b.cat.Ensure(t.Context(), b.urn("me:x:y:1.0.0"), nil)
	wantCode(t, err, arm.CodeDigestMismatch, "add it again")
}
