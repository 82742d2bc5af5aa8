package build_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/layer"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/run"
)

// everyStep makes guests whose steps all take long enough for a memory layer.
func everyStep(c *build.Config) { c.MemoryCost = time.Nanosecond }

// steps are shell customizers that say their names.
func steps(names ...string) []buildtest.Object {
	var all []buildtest.Object
	for _, n := range names {
		all = append(all, buildtest.Shell(n, "echo ran "+n))
	}
	return all
}

// cached is a request that reuses layers.
func cached(l *buildtest.Lab, name string, customize []buildtest.Object) build.Request {
	req := l.Request(name, buildtest.Template{Customize: customize})
	req.Cache.MaxAge = build.DefaultMaxAge
	return req
}

// ran are the names of the steps that a build ran, and those that were cached.
func ran(events *buildtest.Recording) (ran, cached []string) {
	for _, e := range events.Events() {
		switch e.Kind {
		case event.StepStarted:
			ran = append(ran, e.StepName)
		case event.StepCached:
			cached = append(cached, e.StepName)
		}
	}
	return ran, cached
}

// build builds and returns which steps ran and which were cached, as one text.
func mustBuild(t *testing.T, l *buildtest.Lab, req build.Request) (run.Record, string, *buildtest.Recording) {
	t.Helper()
	rec, events, err := l.Build(t.Context(), req)
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	did, not := ran(events)
	return rec, strings.Join(not, " ") + "|" + strings.Join(did, " "), events
}

// contents is what the guests wrote into the image of a run.
func contents(t *testing.T, l *buildtest.Lab, rec run.Record) []string {
	t.Helper()
	image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
	if err != nil {
		t.Fatal(err)
	}
	return l.Journal(image.Content.Image)
}

func TestCacheRunsWhatChanged(t *testing.T) {
	l := buildtest.New(t, everyStep)
	for _, c := range []struct {
		why   string
		steps []buildtest.Object
		want  string
	}{
		{"first", steps("a", "b", "c"), "|a b c"},
		{"the same", steps("a", "b", "c"), "a b c|"},
		{"the last changed", steps("a", "b", "d"), "a b|d"},
		{"the middle changed", steps("a", "x", "c"), "a|x c"},
		{"the first changed", steps("y", "b", "c"), "|y b c"},
		{"appended", steps("a", "b", "c", "e"), "a b c|e"},
		{"shortened", steps("a"), "a|"},
		{"back", steps("a", "b", "d"), "a b d|"},
	} {
		rec, got, events := mustBuild(t, l, cached(l, "one", c.steps))
		if got != c.want {
			t.Errorf("%s: %s, want %s\n%s", c.why, got, c.want, events.Text())
		}
		// What is in the image is what the template says, in order.
		var want []string
		want = append(want, "boot")
		for i, s := range c.steps {
			inline := s["inline"].([]string)
			want = append(want, "script_"+string(rune('1'+i))+".sh: "+strings.Join(inline, "\n"))
		}
		want = append(want, "generalise")
		if diff := cmp.Diff(want, contents(t, l, rec)); diff != "" {
			t.Errorf("%s: the image (-want +got):\n%s", c.why, diff)
		}
	}
}

// A file in memory is there for the next step, though the step that wrote it did
// not run.
func TestCacheKeepsWhatIsOnlyInMemory(t *testing.T) {
	l := buildtest.New(t, everyStep)
	file := l.File("message", "from memory\n")
	template := func(last string) []buildtest.Object {
		return []buildtest.Object{
			{"type": "File", "name": "bring", "sourceUri": file, "destination": "/tmp/message"},
			buildtest.Shell("use", `cat "$TMPDIR/message"`),
			buildtest.Shell("last", last),
		}
	}
	mustBuild(t, l, cached(l, "one", template("true")))
	_, got, events := mustBuild(t, l, cached(l, "one", template("test -s \"$TMPDIR/message\"")))
	if got != "bring use|last" {
		t.Errorf("%s\n%s", got, events.Text())
	}
}

func TestCachePolicy(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "one", steps("a", "b")))
	for _, c := range []struct {
		name   string
		change func(*build.Request)
		want   string
		says   string
	}{
		{"no cache", func(r *build.Request) { r.Cache.MaxAge = 0 }, "|a b", "not reused"},
		{"too old", func(r *build.Request) { r.Cache.MaxAge = time.Nanosecond }, "|a b", "longer ago than"},
		{"from a step", func(r *build.Request) { r.Cache.FromStep = "b" }, "a|b", "asked to run"},
		{"from the first", func(r *build.Request) { r.Cache.FromStep = "a" }, "|a b", "asked to run"},
		{"all of it", func(*build.Request) {}, "a b|", "nothing changed"},
		{"another size of machine", func(r *build.Request) {
			*r = l.Request("one", buildtest.Template{Customize: steps("a", "b"), VMProfile: buildtest.Object{"osDiskSizeGB": 1}})
			r.Cache = build.CachePolicy{MaxAge: time.Hour, Explain: true}
		}, "|a b", "the size of the disk changed"},
	} {
		req := cached(l, "one", steps("a", "b"))
		c.change(&req)
		_, got, events := mustBuild(t, l, req)
		if got != c.want || !events.Has(event.Decision, c.says) {
			t.Errorf("%s: %s, want %s saying %q\n%s", c.name, got, c.want, c.says, events.Text())
		}
	}
	req := cached(l, "one", steps("a"))
	req.Cache.FromStep = "nowhere"
	if rec, events, err := l.Build(t.Context(), req); err == nil || !strings.Contains(rec.Message, "no step of that name") {
		t.Errorf("from a step that is not there: %v\n%s", err, events.Text())
	}
}

func TestCacheExplains(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "one", steps("a", "b", "c")))
	changed := steps("a", "b", "c")
	changed[1]["inline"] = []string{"echo other"}
	req := cached(l, "one", changed)
	req.Cache.Explain = true
	_, got, events := mustBuild(t, l, req)
	if got != "a|b c" {
		t.Errorf("ran %s", got)
	}
	for _, text := range []string{
		`step 2 "b" runs: it has not run before with these inputs; since the last run its commands changed`,
		`step 3 "c" runs: a step before it runs`,
	} {
		if !events.Has(event.Decision, text) {
			t.Errorf("no decision says %q\n%s", text, events.Text())
		}
	}
}

// Steps that are quick to run again get no memory layer and run again.
func TestQuickStepsHaveNoMemory(t *testing.T) {
	l := buildtest.New(t, func(c *build.Config) { c.MemoryCost = time.Hour })
	mustBuild(t, l, cached(l, "one", steps("a", "b")))
	_, got, events := mustBuild(t, l, cached(l, "one", steps("a", "c")))
	if got != "|a c" || !events.Has(event.Decision, "quick to run again") {
		t.Errorf("%s\n%s", got, events.Text())
	}
	if slices.Contains(l.Fake.Calls(), machinetest.Checkpoint) {
		t.Error("memory was saved")
	}
	if _, got, _ := mustBuild(t, l, cached(l, "one", steps("a", "b"))); got != "a b|" {
		t.Errorf("the finished image of before is not reused: %s", got)
	}
}

// Builds at the same time that begin with the same steps run these once.
func TestSharedPrefixRunsOnce(t *testing.T) {
	l := buildtest.New(t, func(c *build.Config) { c.MemoryCost = time.Hour })
	mustBuild(t, l, cached(l, "warm", nil)) // the booted base
	started, waiting := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.SetScript(buildtest.Script{Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "ran a") {
			once.Do(func() { close(started) })
			select {
			case <-waiting:
			case <-ctx.Done():
			}
		}
		return 0, false
	}})
	type outcome struct {
		steps string
		err   error
	}
	begin := func(name string, on func(event.Event), s ...string) chan outcome {
		done := make(chan outcome, 1)
		req := cached(l, name, steps(s...))
		go func() {
			events := &buildtest.Recording{On: on}
			_, err := l.Engine.Build(t.Context(), req, events)
			did, not := ran(events)
			done <- outcome{strings.Join(not, " ") + "|" + strings.Join(did, " "), err}
		}()
		return done
	}
	first := begin("first", nil, "a", "b", "c")
	<-started
	second := begin("second", func(e event.Event) {
		if e.Kind == event.Decision && strings.Contains(e.Text, "another build runs the same steps up to 2") {
			close(waiting)
		}
	}, "a", "b", "d")
	for name, c := range map[string]struct {
		got  chan outcome
		want string
	}{"first": {first, "|a b c"}, "second": {second, "a b|d"}} {
		if o := <-c.got; o.err != nil || o.steps != c.want {
			t.Errorf("%s: %s, %v; want %s", name, o.steps, o.err, c.want)
		}
	}
}

// A layer whose file is damaged is found out and made again.
func TestDamagedLayers(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, l *buildtest.Lab, memory layer.Record){
		"truncated memory": func(t *testing.T, l *buildtest.Lab, m layer.Record) { l.Truncate(m.ID, layer.StateFile) },
		"corrupted memory": func(t *testing.T, l *buildtest.Lab, m layer.Record) { l.Corrupt(m.ID, layer.StateFile) },
		"missing memory":   func(t *testing.T, l *buildtest.Lab, m layer.Record) { l.RemoveLayerFile(m.ID, layer.StateFile) },
		"truncated disk":   func(t *testing.T, l *buildtest.Lab, m layer.Record) { l.Truncate(m.Parent, layer.DiskFile) },
		"corrupted disk":   func(t *testing.T, l *buildtest.Lab, m layer.Record) { l.Corrupt(m.Parent, layer.DiskFile) },
	} {
		t.Run(name, func(t *testing.T) {
			l := buildtest.New(t, everyStep)
			first, _, _ := mustBuild(t, l, cached(l, "one", steps("a", "b", "c")))
			damage(t, l, l.MemoryOf(first.ID, "b"))
			rec, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b", "d")))
			if got == "a b|d" {
				t.Errorf("the damaged layer was used\n%s", events.Text())
			}
			want := []string{"boot", "script_1.sh: echo ran a", "script_2.sh: echo ran b", "script_3.sh: echo ran d", "generalise"}
			if diff := cmp.Diff(want, contents(t, l, rec)); diff != "" {
				t.Errorf("the image (-want +got):\n%s", diff)
			}
			if _, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b", "e"))); got != "a b|e" {
				t.Errorf("the layer was not made again: %s\n%s", got, events.Text())
			}
		})
	}
}

// The directory of layers may be deleted under an open engine.
func TestDeletedLayers(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "one", steps("a", "b", "c")))
	l.RemoveLayerFile("", "")
	if _, events, err := l.Build(t.Context(), cached(l, "one", steps("a", "b", "d"))); err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	if _, err := l.Engine.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if _, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b", "e"))); got != "a b|e" {
		t.Errorf("%s\n%s", got, events.Text())
	}
}

// Whatever fails while memory is saved, the build goes on without it.
func TestFailedCheckpoints(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "warm", nil))
	l.Fake.FailOn(machinetest.Checkpoint, errors.New("the disk is full"))
	_, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b")))
	if got != "|a b" || !events.Has(event.Warning, "the guest's memory was not saved") {
		t.Errorf("%s\n%s", got, events.Text())
	}
	l.Fake.DieOn(machinetest.Checkpoint, errors.New("lightning"))
	rec, events, err := l.Build(t.Context(), cached(l, "two", steps("c")))
	if err == nil || rec.State != run.Failed {
		t.Errorf("a machine that died: %v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
}

// A state that does not load is not tried again.
func TestAnotherHypervisor(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "one", steps("a", "b")))
	l.Fake.Upgrade()
	_, got, events := mustBuild(t, l, cached(l, "one", steps("a", "c")))
	if got != "|a c" || !events.Has(event.Decision, "another QEMU") {
		t.Errorf("%s\n%s", got, events.Text())
	}
	l.Fake.FailOn(machinetest.Restore, errors.New("it does not load"))
	_, got, events = mustBuild(t, l, cached(l, "one", steps("a", "d")))
	if got != "|a d" || !events.Has(event.Decision, "is not usable") {
		t.Errorf("%s\n%s", got, events.Text())
	}
}

func TestDebug(t *testing.T) {
	l := buildtest.New(t, everyStep)
	broken := append(steps("a"), buildtest.Shell("b", "echo left here > \"$TMPDIR/left\"", "exit 3"))
	req := cached(l, "one", broken)
	req.OnError, req.Keep = build.Keep, time.Hour
	rec, events, err := l.Build(t.Context(), req)
	if err == nil || !events.Has(event.Decision, "goldsmith debug") {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	state, err := l.Engine.FailedState(t.Context(), rec.ID)
	if err != nil || state.Step != "b" {
		t.Fatalf("%+v, %v", state, err)
	}
	for range 2 { // it does not change by being looked at
		exit, err := l.Engine.Debug(t.Context(), rec.ID, build.DebugOptions{Command: "grep -q here /tmp/left && exit 7"}, event.Discard)
		if err != nil || exit != 7 {
			t.Errorf("debug: %d, %v", exit, err)
		}
	}
	if _, err := l.Engine.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := l.Engine.FailedState(t.Context(), rec.ID); err != nil {
		t.Errorf("garbage collection took what is kept: %v", err)
	}
	// The corrected template goes on from the last good layer.
	if _, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b"))); got != "a|b" {
		t.Errorf("%s\n%s", got, events.Text())
	}
	if err := l.Engine.DropFailed(t.Context(), rec.ID); err != nil {
		t.Error(err)
	}
	if _, err := l.Engine.FailedState(t.Context(), rec.ID); err == nil {
		t.Error("the state is still there")
	}
	req.OnError = build.Clean
	rec, _, _ = l.Build(t.Context(), req)
	if _, err := l.Engine.FailedState(t.Context(), rec.ID); err == nil {
		t.Error("a state was kept")
	}
}

func TestValues(t *testing.T) {
	l := buildtest.New(t, everyStep)
	const secret = "hunter2-not-for-logs"
	template := []buildtest.Object{
		buildtest.Shell("plain", "echo nothing"),
		buildtest.Shell("greet", `echo "$GREETING"`, `echo kept > "$TMPDIR/kept"`),
		buildtest.Shell("log in", `test "$TOKEN" = `+"hunter2-not-for-\"logs\"", `echo "the token is $TOKEN"`),
		buildtest.Shell("after", "echo after"),
	}
	request := func(greeting, version string) build.Request {
		req := cached(l, "one", template)
		req.Values = []build.GivenValue{{Name: "GREETING", Content: []byte(greeting)}, {Name: "TOKEN", Content: []byte(secret), Secret: true, Version: version}}
		return req
	}
	rec, _, events := mustBuild(t, l, request("hello", "1"))
	if strings.Contains(events.Text(), secret) {
		t.Error("the secret is in the events")
	}
	if !events.Has(event.Output, "hello") {
		t.Errorf("the parameter did not arrive\n%s", events.Text())
	}
	l.CheckNowhere(secret)
	stored, err := l.Engine.Runs().Get(t.Context(), rec.ID)
	if err != nil || strings.Contains(string(stored.Request), secret) {
		t.Errorf("the run's record holds the secret (%v)", err)
	}
	for _, c := range []struct{ greeting, version, want string }{
		{"hello", "1", "plain greet log in after|"},
		{"goodbye", "1", "plain|greet log in after"},
		{"goodbye", "2", "plain greet|log in after"},
		{"goodbye", "3", "plain greet|log in after"}, // nothing is saved once a secret was given
	} {
		if _, got, events := mustBuild(t, l, request(c.greeting, c.version)); got != c.want {
			t.Errorf("%+v: %s\n%s", c, got, events.Text())
		}
	}
}

// A location with a store of its own gets what it lacks, and no more.
func TestReplication(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	l := buildtest.New(t, func(c *build.Config) { c.Locations = map[string]string{"East US": there} })
	req := func(text string) build.Request {
		return l.Request("one", buildtest.Template{
			Customize:  []buildtest.Object{buildtest.Shell("say", "echo "+text)},
			Distribute: []buildtest.Object{l.ToGallery("far", "", buildtest.Object{"replicationRegions": []string{buildtest.Location, "eastus"}})},
		})
	}
	_, _, events := mustBuild(t, l, req("one"))
	if !events.Has(event.Info, "replicated to eastus: 7 of 7 chunks") {
		t.Errorf("the first version\n%s", events.Text())
	}
	_, _, events = mustBuild(t, l, req("two"))
	if !events.Has(event.Info, "replicated to eastus: 1 of 7 chunks") {
		t.Errorf("the second version\n%s", events.Text())
	}
	store, err := image.Open(there)
	if err != nil {
		t.Fatal(err)
	}
	images, err := store.List(t.Context())
	if err != nil || len(images) != 2 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for _, d := range images {
		if err := store.Verify(t.Context(), d, nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Engine.Collect(t.Context()); err != nil {
		t.Error(err)
	}
}

// A long chain is flattened into one layer before a build goes on from it; images
// do not change by it, and what they inherit neither.
func TestLongChain(t *testing.T) {
	l := buildtest.New(t, everyStep)
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprint("s", i))
	}
	mustBuild(t, l, cached(l, "one", steps(names...)))
	for _, last := range []string{"other", "third"} {
		names[11] = last
		rec, got, events := mustBuild(t, l, cached(l, "one", steps(names...)))
		if got != strings.Join(names[:11], " ")+"|"+last {
			t.Errorf("%s\n%s", got, events.Text())
		}
		want := []string{"boot"}
		for i, n := range names {
			want = append(want, fmt.Sprintf("script_%d.sh: echo ran %s", i+1, n))
		}
		if diff := cmp.Diff(append(want, "generalise"), contents(t, l, rec)); diff != "" {
			t.Errorf("the image (-want +got):\n%s", diff)
		}
		if depth := l.Depth(rec.ID); depth != 2 {
			t.Errorf("the last layer of the run stands on %d layers", depth)
		}
	}
}

// Verification finds damaged layers and chunks, and takes them out of use.
func TestVerifyStored(t *testing.T) {
	l := buildtest.New(t, everyStep)
	rec, _, _ := mustBuild(t, l, cached(l, "one", steps("a", "b")))
	if v, err := l.Engine.VerifyStored(t.Context(), event.Discard); err != nil || v.Layers != 5 || v.Images != 2 || v.DamagedLayers+v.DamagedImages != 0 {
		t.Errorf("whole: %+v, %v", v, err)
	}
	l.Corrupt(l.MemoryOf(rec.ID, "b").ID, layer.StateFile)
	l.CorruptChunk(rec)
	findings := &buildtest.Recording{}
	v, err := l.Engine.VerifyStored(t.Context(), findings)
	if err != nil || v.DamagedLayers != 1 || v.DamagedImages != 1 || len(findings.Events()) != 2 {
		t.Errorf("damaged: %+v, %v\n%s", v, err, findings.Text())
	}
	// A damaged image is not published from the cache. Building heals it.
	rec, events, err := l.Build(t.Context(), cached(l, "one", steps("a", "b")))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	did, _ := ran(events)
	if !slices.Equal(did, []string{"b"}) {
		t.Errorf("ran %v\n%s", did, events.Text())
	}
	if got := contents(t, l, rec); len(got) != 4 {
		t.Errorf("the image holds %q", got)
	}
}
