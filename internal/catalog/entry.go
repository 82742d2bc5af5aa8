package catalog

import (
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
)

// OS is the family of an image's operating system.
type OS string

// Operating systems.
const (
	Linux   OS = "linux"
	Windows OS = "windows"
)

// Entry is one platform image. A shipped entry has the version "latest" until it
// is resolved; stored entries have an exact version.
type Entry struct {
	URN
	Title      string `json:"title,omitempty"`
	Generation int    `json:"generation"` // 1: BIOS, 2: UEFI
	OS         OS     `json:"os"`
	// Size is the virtual size in bytes, 0 until the image is imported.
	Size int64 `json:"size,omitempty"`
	// Format is the disk format of the source: qcow2, raw, vpc, vhdx, vmdk; ""
	// until the image is imported.
	Format string `json:"format,omitempty"`
	Source Source `json:"source"`
	// Digest is what the source's file must have; zero while unknown.
	Digest artifact.Digest `json:"digest"`
	// ImageDigest is the image's index digest in the image store, "" until it is
	// imported.
	ImageDigest string `json:"imageDigest,omitempty"`
	// Shipped marks images that come with the program.
	Shipped bool      `json:"shipped,omitempty"`
	AddedAt time.Time `json:"addedAt,omitzero"` // when it was imported
	// CheckedAt is when this was last seen to be the latest version upstream.
	CheckedAt time.Time `json:"checkedAt,omitzero"`
}

// Source is where an entry's disk comes from: one of URL, File and Recipe.
type Source struct {
	URL string `json:"url,omitempty"` // http(s), without secrets
	// DigestList is the URL of the list that has URL's digest, for a URL whose
	// content changes.
	DigestList string `json:"digestList,omitempty"`
	// Release is the first numbers of the versions of such a URL.
	Release string `json:"release,omitempty"`
	File    string `json:"file,omitempty"`   // absolute path
	Recipe  string `json:"recipe,omitempty"` // name of a Maker
}

// String is the source as people see it.
func (s Source) String() string {
	switch {
	case s.Recipe != "":
		return "recipe " + s.Recipe
	case s.File != "":
		return s.File
	}
	return artifact.Redact(s.URL)
}

// Check returns CodeUsage when e cannot be an entry.
func (e Entry) Check() error {
	if err := e.URN.Check(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return arm.Errorf(arm.CodeUsage, format, args...).At(e.URN.String())
	}
	switch {
	case e.Generation != 1 && e.Generation != 2:
		return bad("generation is %d, not 1 (BIOS) or 2 (UEFI)", e.Generation)
	case e.OS != Linux && e.OS != Windows:
		return bad("operating system %q is not linux or windows", e.OS)
	}
	sources := 0
	for _, s := range []string{e.Source.URL, e.Source.File, e.Source.Recipe} {
		if s != "" {
			sources++
		}
	}
	if sources != 1 {
		return bad("the entry has %d sources; it needs one of URL, file and recipe", sources)
	}
	for _, raw := range []string{e.Source.URL, e.Source.DigestList} {
		if raw == "" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || !isWeb(u.Scheme) {
			return bad("%q is not an http or https URL", artifact.Redact(raw))
		}
	}
	if e.Source.File != "" && !filepath.IsAbs(e.Source.File) {
		return bad("file %q is not an absolute path", e.Source.File)
	}
	if e.IsLatest() && e.Source.Recipe == "" && e.Source.DigestList == "" {
		return bad("the entry needs an exact version: nothing tells the versions of its source apart")
	}
	return nil
}

func isWeb(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}
