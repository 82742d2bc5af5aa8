package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/contents"
	"goldsmith/internal/plan"
	"goldsmith/internal/run"
)

// Volatile are the paths in which two builds of one template always differ: what
// was logged, cached or counted, and when. A trailing /** is all below.
var Volatile = []string{
	"/var/log/**", "/var/cache/**", "/tmp/**", "/var/tmp/**", "/run/**", "/root/.cache/**", "/lost+found/**",
	"/var/lib/apt/lists/**", "/var/lib/apt/extended_states", "/var/lib/dpkg/*-old", "/var/backups/**",
	"/var/lib/systemd/**", "/var/lib/cloud/**", "/var/lib/dhcp/**", "/var/lib/private/**", "/var/lib/waagent/**",
	"/etc/machine-id", "/etc/resolv.conf", "/etc/ssh/ssh_host_*", "/etc/.updated", "/var/.updated", "/etc/*-", "/etc/ld.so.cache",
}

// IsVolatile reports whether p is one of Volatile.
func IsVolatile(p string) bool {
	for _, pattern := range Volatile {
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
			if p == dir || strings.HasPrefix(p, dir+"/") {
				return true
			}
			continue
		}
		if ok, err := path.Match(pattern, p); ok && err == nil {
			return true
		}
	}
	return false
}

// VerifyCache builds a request as Build does, and then once more without anything
// saved: cold, from a booted base, publishing nothing. It reports in what the two
// images differ apart from Volatile.
func (e *Engine) VerifyCache(ctx context.Context, req Request, sink event.Sink) (*contents.Report, run.Record, error) {
	rec, err := e.Build(ctx, req, sink)
	if err != nil {
		return nil, rec, err
	}
	cold := req
	cold.Cache, cold.Outputs, cold.unpublished = CachePolicy{Cold: true}, nil, true
	again, err := e.Build(ctx, cold, event.SinkFunc(func(ev event.Event) {
		if ev.Kind == event.Decision || ev.Kind == event.Warning || ev.Kind == event.Progress {
			ev.Text = "cold build: " + ev.Text
			sink.Emit(ev)
		}
	}))
	if err != nil {
		return nil, rec, fmt.Errorf("build without the cache: %w", err)
	}
	var digests []string
	for _, id := range []string{rec.ID, again.ID} {
		digest, ok := e.imageOf.Load(id)
		if !ok {
			return nil, rec, arm.Errorf(arm.CodeInternal, "run %s made no image", id)
		}
		digests = append(digests, digest.(string))
	}
	report, err := e.CompareImages(ctx, digests[0], digests[1], true)
	return report, rec, err
}

// CompareImages compares what two stored images hold; with ignore set, differences
// in Volatile paths are only counted.
func (e *Engine) CompareImages(ctx context.Context, a, b string, ignore bool) (report *contents.Report, err error) {
	var opened []*image.Image
	defer func() {
		for _, m := range opened {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, text := range []string{a, b} {
		digest, err := image.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		m, err := e.images.OpenImage(ctx, digest)
		if err != nil {
			return nil, err
		}
		opened = append(opened, m)
	}
	skip := IsVolatile
	if !ignore {
		skip = nil
	}
	return contents.Compare(ctx, opened[0], opened[1], skip)
}

// runFacts are what the keys of a run's plan were made of.
const runFacts = "run-facts"

// keepFacts keeps what the run's plan was made of, for comparisons of images.
func (b *builder) keepFacts(ctx context.Context) error {
	facts, err := b.plan.Facts()
	if err != nil {
		return err
	}
	for _, s := range b.plan.Steps {
		facts.Names = append(facts.Names, s.Name)
	}
	body, err := json.Marshal(facts)
	if err != nil {
		return fmt.Errorf("encode the facts of a plan: %w", err)
	}
	_, err = b.engine.db.Documents(runFacts).Put(ctx, b.active.id(), body, document.Condition{})
	return err
}

// ImageDiff is how one image differs from another.
type ImageDiff struct {
	*contents.Report
	DiskA   int64        `json:"diskA"` // bytes of the virtual disks
	DiskB   int64        `json:"diskB"`
	Steps   []StepChange `json:"steps,omitempty"`
	Ignored []string     `json:"ignoredPaths,omitempty"` // where differences were only counted
}

// DiffImages says how image b differs from image a in content, and in the steps and
// inputs of the builds that made them. Differences in Volatile paths are only
// counted unless all is set.
func (e *Engine) DiffImages(ctx context.Context, a, b Image, all bool) (ImageDiff, error) {
	report, err := e.CompareImages(ctx, a.Content.Image, b.Content.Image, !all)
	if err != nil {
		return ImageDiff{}, err
	}
	d := ImageDiff{Report: report, DiskA: a.DiskBytes, DiskB: b.DiskBytes}
	if !all {
		d.Ignored = Volatile
	}
	d.Steps, err = e.CompareRuns(ctx, a.Run, b.Run)
	return d, err
}

// StepChange is a step that two runs do not have in common.
type StepChange struct {
	Step string `json:"step"`
	What string `json:"what"`
}

// CompareRuns says in which steps and inputs run b differs from run a; nil when
// what they were made of is not known.
func (e *Engine) CompareRuns(ctx context.Context, a, b string) ([]StepChange, error) {
	var facts [2]plan.Facts
	for i, id := range []string{a, b} {
		if id == "" {
			return nil, nil
		}
		rec, err := e.db.Documents(runFacts).Get(ctx, id)
		if arm.IsCode(err, arm.CodeNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(rec.Body, &facts[i]); err != nil {
			return nil, arm.Errorf(arm.CodeCorrupt, "what run %s was made of does not parse: %w", id, err)
		}
	}
	changes := plan.Compare(facts[0], facts[1])
	var out []StepChange
	if changes.Whole != "" {
		out = append(out, StepChange{"", changes.Whole})
	}
	for i, what := range changes.Steps {
		if what != "" {
			out = append(out, StepChange{name(facts[1], i), what})
		}
	}
	for i := len(facts[1].Steps); i < len(facts[0].Steps); i++ {
		out = append(out, StepChange{name(facts[0], i), "the step is gone"})
	}
	return out, nil
}

func name(f plan.Facts, i int) string {
	if i < len(f.Names) {
		return f.Names[i]
	}
	return fmt.Sprint("step ", i+1)
}
