package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/suggest"
)

// fallbackPatience is how long upstream is asked when a stored image would do.
const fallbackPatience = 20 * time.Second

// Resolve says which exact image u is. "latest" is the highest of the stored
// versions and of what upstream serves now; upstream is asked at most once per
// Options.MaxAge, and when it does not answer the newest stored image is used
// with a warning. The result has no ImageDigest when it must still be fetched.
//
// CodeNotFound lists the stored versions or near names.
func (c *Catalog) Resolve(ctx context.Context, u URN, sink event.Sink) (Entry, error) {
	return c.resolve(ctx, u, orDiscard(sink), false)
}

func orDiscard(sink event.Sink) event.Sink {
	if sink == nil {
		return event.Discard
	}
	return sink
}

// resolve with fresh set asks upstream whatever is stored, and wants an answer.
func (c *Catalog) resolve(ctx context.Context, u URN, sink event.Sink, fresh bool) (Entry, error) {
	if err := u.Check(); err != nil {
		return Entry{}, err
	}
	stored, err := c.stored(ctx, u)
	if err != nil {
		return Entry{}, err
	}
	newest, have := pick(stored, u)
	shipped, ships := c.shippedAs(u)
	switch {
	case have && !u.IsLatest():
		return newest, nil
	case !ships && have:
		return newest, nil
	case !ships:
		return Entry{}, c.notFound(ctx, u, stored)
	case shipped.Source.Recipe != "":
		return c.resolveRecipe(ctx, u, shipped, stored, sink)
	}
	if have && !fresh && newest.CheckedAt.Add(c.o.MaxAge).After(c.o.Now()) {
		decide(sink, newest, "looked up "+humanize.RelTime(newest.CheckedAt, c.o.Now(), "ago", "from now"))
		return newest, nil
	}
	ask := ctx
	if have && !fresh {
		limited, cancel := context.WithTimeout(ctx, fallbackPatience)
		defer cancel()
		ask = limited
	}
	now, err := c.upstream(ask, shipped, stored, sink)
	switch {
	case err != nil && have && !fresh && ctx.Err() == nil:
		sink.Emit(event.Event{Kind: event.Warning, Target: u.Image(), Text: fmt.Sprintf(
			"the latest version cannot be looked up, so the newest one here, %s, is used: %v", newest.Version, err)})
		return newest, nil
	case err != nil:
		return Entry{}, err
	case !u.IsLatest() && CompareVersions(now.Version, u.Version) != 0:
		return Entry{}, c.notFound(ctx, u, append(stored, now))
	}
	if now.ImageDigest != "" {
		if err := c.o.Registry.Put(ctx, now); err != nil { // keeps CheckedAt
			return Entry{}, err
		}
	}
	if have && CompareVersions(newest.Version, now.Version) > 0 {
		decide(sink, newest, "stored, above upstream's "+now.Version)
		return newest, nil
	}
	if u.IsLatest() {
		decide(sink, now, "looked up now")
	}
	return now, nil
}

// resolveRecipe takes the newest image made by the recipe while it is there, and
// otherwise says what making it now would give.
func (c *Catalog) resolveRecipe(ctx context.Context, u URN, shipped Entry, stored []Entry, sink event.Sink) (Entry, error) {
	newest, have := pick(stored, u)
	if have {
		if ok, err := c.o.Importer.Has(ctx, newest.ImageDigest); err != nil || ok {
			decide(sink, newest, "made here")
			return newest, err
		}
	}
	shipped.Version = buildID{release: shipped.Source.Release, day: c.o.Now()}.version(stored)
	if !u.IsLatest() && shipped.Version != u.Version {
		return Entry{}, c.notFound(ctx, u, append(stored, shipped))
	}
	return shipped, nil
}

func decide(sink event.Sink, e Entry, why string) {
	sink.Emit(event.Event{Kind: event.Decision, Target: e.Image(), Text: fmt.Sprintf("latest version of %s is %s (%s)", e.Image(), e.Version, why)})
}

// notFound explains that u does not exist. known are versions of its image.
func (c *Catalog) notFound(ctx context.Context, u URN, known []Entry) error {
	if len(known) > 0 {
		var versions []string
		for i := len(known) - 1; i >= 0 && len(versions) < 5; i-- {
			versions = append(versions, known[i].Version)
		}
		return arm.Errorf(arm.CodeNotFound, "platform image %s has no version %s here; known are %s; name one of them, or %q, or add it with 'goldsmith catalog add'",
			u.Image(), u.Version, strings.Join(versions, ", "), Latest)
	}
	all, err := c.List(ctx)
	if err != nil {
		return err
	}
	var names []string
	seen := map[string]bool{}
	for _, e := range all {
		if name := e.Image(); !seen[strings.ToLower(name)] {
			seen[strings.ToLower(name)] = true
			names = append(names, name)
		}
	}
	hint := ""
	if near := suggest.Nearest(u.Image(), names, 3); len(near) > 0 {
		hint = " (did you mean " + strings.Join(near, " or ") + "?)"
	} else if near := sameOffer(u, all); len(near) > 0 {
		hint = " (near it are " + strings.Join(near, ", ") + ")"
	}
	return arm.Errorf(arm.CodeNotFound, "platform image %s is not in the catalog%s; 'goldsmith catalog list' shows all, 'goldsmith catalog add' adds a disk image under this name",
		u.Image(), hint)
}

// sameOffer lists images of u's publisher and offer, or else of its publisher.
func sameOffer(u URN, all []Entry) []string {
	var offer, publisher []string
	for _, e := range all {
		if !strings.EqualFold(e.Publisher, u.Publisher) || !e.IsLatest() {
			continue
		}
		publisher = append(publisher, e.Image())
		if strings.EqualFold(e.Offer, u.Offer) {
			offer = append(offer, e.Image())
		}
	}
	if len(offer) > 0 {
		return offer
	}
	return publisher[:min(5, len(publisher))]
}
