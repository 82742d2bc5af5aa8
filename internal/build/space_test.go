package build_test

import (
	"strings"
	"testing"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
)

// When the disk is nearly full, the layers longest unused go after each build, and no
// more of them than it takes; the build itself saves no memory where there is none.
func TestLayersMakeRoom(t *testing.T) {
	const gib = 1 << 30
	room := build.Space{Free: 100 * gib, All: 200 * gib}
	l := buildtest.New(t, everyStep, func(c *build.Config) {
		c.Space = func(string) (build.Space, error) { return room, nil }
	})
	count := func() (n int) {
		all, err := l.Engine.Layers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	mustBuild(t, l, cached(l, "one", steps("a", "b", "c")))
	first := count()
	room.Free = 8*gib - 1 // a byte is lacking
	_, _, events := mustBuild(t, l, cached(l, "two", steps("x")))
	if n := count(); n != first+1 {
		t.Errorf("%d layers were %d before a build of one step that makes two, of which one had to go\n%s", n, first, events.Text())
	}
	_, got, events := mustBuild(t, l, cached(l, "two", steps("x")))
	if got != "x|" {
		t.Errorf("the build made last is not reused: %s\n%s", got, events.Text())
	}
	room.Free = 1 << 20
	_, got, events = mustBuild(t, l, cached(l, "three", steps("y")))
	if !strings.HasSuffix(got, "|y") || !events.Has(event.Decision, "the data directory's disk is nearly full") {
		t.Errorf("%s\n%s", got, events.Text())
	}
	if n := count(); n > 3 {
		t.Errorf("%d layers are left on a full disk", n)
	}
}
