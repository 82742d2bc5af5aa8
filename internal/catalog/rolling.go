package catalog

import (
	"context"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// Rolling URLs serve a new image every few weeks under the same name. The exact
// version of what they serve is "A.B.YYYYMMDDN", the form in which Canonical,
// AlmaLinux and others publish on Azure: A.B is the entry's release, YYYYMMDD the
// day the image was built and N a digit that tells images of one day apart. The
// day is read from the names that the digest list gives the same content, else
// from Last-Modified. Point releases are left out: not every image tells its own,
// and versions must rise with the day.

// maxList caps a digest list, in bytes.
const maxList = 4 << 20

// upstream asks what a shipped entry's URL serves now.
func (c *Catalog) upstream(ctx context.Context, e Entry, stored []Entry, sink event.Sink) (Entry, error) {
	body, listMeta, err := c.o.Fetcher.Bytes(ctx, e.Source.DigestList, maxList, sink)
	if err != nil {
		return Entry{}, err
	}
	list, err := ParseDigestList(body)
	if err != nil {
		return Entry{}, arm.Errorf(arm.CodeOf(err), "%w", err).At(e.Source.DigestList)
	}
	u, err := url.Parse(e.Source.URL)
	if err != nil {
		return Entry{}, arm.Errorf(arm.CodeUsage, "%w", err).At(e.URN.String())
	}
	name := path.Base(u.Path)
	digest, ok := list.Find(name)
	if !ok {
		return Entry{}, arm.Errorf(arm.CodeFetchFailed, "the digest list has no digest for %q", name).At(e.Source.DigestList)
	}
	e.Digest = digest
	e.CheckedAt = c.o.Now().UTC()
	for _, s := range stored {
		if s.Digest == digest {
			s.CheckedAt = e.CheckedAt
			return s, nil
		}
	}
	build, ok := buildOfNames(list.Names(digest), e.Source.Release)
	if !ok {
		build = buildID{release: e.Source.Release, day: listMeta.LastModified}
		meta, err := c.o.Fetcher.Head(ctx, e.Source.URL, sink)
		if err != nil {
			return Entry{}, err
		}
		if !meta.LastModified.IsZero() {
			build.day = meta.LastModified
		}
		if build.day.IsZero() {
			build.day = c.o.Now() // the day it was first seen
		}
	}
	e.Version = build.version(stored)
	return e, nil
}

// buildID is what the version of an image is made of.
type buildID struct {
	release string    // "22.04"
	day     time.Time // in UTC
	serial  int       // 0 to 9
}

var buildName = regexp.MustCompile(`[-.](20[0-9]{6})(?:[.-]([0-9]))?(?:[^0-9]|$)`)

// buildOfNames reads the build from the names an image also goes by, such as
// AlmaLinux-9-GenericCloud-9.6-20250522.x86_64.qcow2.
func buildOfNames(names []string, release string) (buildID, bool) {
	for _, name := range names {
		m := buildName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		day, err := time.Parse("20060102", m[1])
		if err != nil {
			continue
		}
		b := buildID{release: release, day: day}
		if m[2] != "" {
			b.serial = int(m[2][0] - '0')
		}
		return b, true
	}
	return buildID{}, false
}

// version is the first exact version of b that no stored image has.
func (b buildID) version(stored []Entry) string {
	taken := map[string]bool{}
	for _, s := range stored {
		taken[s.Version] = true
	}
	for n := b.serial; ; n++ {
		// Above nine images a day the numbers run into the next day's: harmless.
		day, _ := strconv.Atoi(b.day.UTC().Format("20060102")) // always digits
		v := b.release + "." + strconv.Itoa(day*10+n)
		if !taken[v] {
			return v
		}
	}
}
