package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/event"
	"goldsmith/internal/layer"
	"goldsmith/internal/plan"
)

// DefaultMaxAge is how old layers may be that `goldsmith build` reuses.
const DefaultMaxAge = 24 * time.Hour

// CachePolicy says which layers of earlier runs a run may reuse. A run always
// continues from its own, which it sealed before its worker died.
type CachePolicy struct {
	// MaxAge is how old the oldest step of a reused prefix may be; 0 reuses nothing.
	MaxAge time.Duration `json:"maxAge,omitempty"`
	// FromStep is the name of the first step that runs in any case, "" for none.
	FromStep string `json:"fromStep,omitempty"`
	// Cold boots the base instead of restoring it, and reuses nothing.
	Cold bool `json:"cold,omitempty"`
	// Explain reports for every step why it was or was not reused.
	Explain bool `json:"explain,omitempty"`
}

// cacheHit is where a run can go on: after steps of its plan, from memory, or,
// when that is zero, by booting disk.
type cacheHit struct {
	steps        int
	disk, memory layer.Record
	manifest     layer.Manifest // of disk
}

// verdict is what the look-up found about one step.
type verdict struct {
	at   time.Time // when the step ran; zero when it must run
	text string    // why it must run
}

// lookup finds the longest prefix of the plan that need not run, and the reason
// for every step behind it.
func (b *builder) lookup(ctx context.Context) (hit cacheHit, verdicts []verdict, err error) {
	last, err := b.lastReusable()
	if err != nil {
		return hit, nil, err
	}
	verdicts = make([]verdict, len(b.plan.Steps))
	known := true // every step so far was found
	for i := range b.plan.Steps {
		v, found, err := b.inspect(ctx, i, known, i < last)
		if err != nil {
			return hit, nil, err
		}
		verdicts[i] = v
		if known = known && !v.at.IsZero(); found.steps > 0 {
			hit = found
		}
	}
	for i := hit.steps; i < len(verdicts); i++ {
		if !verdicts[i].at.IsZero() {
			// It is known, but its memory is not there to go on from.
			verdicts[i].at = time.Time{}
		}
	}
	return hit, verdicts, nil
}

// lastReusable is how many steps may be reused at most.
func (b *builder) lastReusable() (int, error) {
	name := b.job.Cache.FromStep
	if name == "" {
		return len(b.plan.Steps), nil
	}
	for i, s := range b.plan.Steps {
		if s.Name == name {
			return i, nil
		}
	}
	return 0, arm.Errorf(arm.CodeUsage, "--from-step %q: the template has no step of that name", name)
}

// inspect looks for the layers of one step. known says that all before it were
// found, allowed that the user wants it reused. v.at is set for a step whose
// result is known, fresh and allowed; found for one that can be continued from.
func (b *builder) inspect(ctx context.Context, i int, known, allowed bool) (v verdict, found cacheHit, err error) {
	switch {
	case !allowed:
		return verdict{text: "asked to run"}, found, nil
	case !known:
		return verdict{text: "a step before it runs"}, found, nil
	}
	step := b.plan.Steps[i]
	rec, err := b.engine.layers.ByKey(ctx, layer.Disk, b.keys.Steps[i])
	if arm.IsCode(err, arm.CodeNotFound) {
		return verdict{text: "it has not run before with these inputs"}, found, nil
	}
	if err != nil {
		return v, found, err
	}
	m, err := layer.ManifestOf(rec)
	if err != nil {
		return v, found, err
	}
	if why := b.stale(rec.Run, m.Oldest); why != "" {
		return verdict{text: why}, found, nil
	}
	v = verdict{at: rec.CreatedAt}
	memory, err := b.engine.layers.ByKey(ctx, layer.Memory, plan.MemoryKey(b.keys.Steps[i], b.fingerprint))
	switch {
	case err == nil:
		// The memory belongs to the disk that it was saved with.
		if memory.Parent != rec.ID {
			if rec, err = b.engine.layers.Get(ctx, memory.Parent); err != nil {
				return v, found, err
			}
			if m, err = layer.ManifestOf(rec); err != nil {
				return v, found, err
			}
		}
		return v, cacheHit{steps: i + 1, disk: rec, memory: memory, manifest: m}, nil
	case !arm.IsCode(err, arm.CodeNotFound):
		return v, found, err
	case step.Reboot:
		// What the next step sees comes from the disk alone.
		return v, cacheHit{steps: i + 1, disk: rec, manifest: m}, nil
	case m.Saved == nil:
		v.text = "it is quick to run again, so no memory was saved after it"
	case m.Saved.Fingerprint != b.fingerprint:
		v.text = "its memory was saved by another QEMU, CPU model or machine"
	default:
		v.text = "its saved memory is gone"
	}
	return v, found, nil
}

// stale says why a chain whose oldest step ran at oldest cannot be reused; "" when
// it can.
func (b *builder) stale(runID string, oldest time.Time) string {
	if runID == b.active.id() {
		return ""
	}
	limit := b.job.Cache.MaxAge
	age := time.Since(oldest)
	switch {
	case limit <= 0:
		return "layers of earlier runs are not reused"
	case age < -time.Minute:
		return fmt.Sprintf("its layer is dated %s ahead of this host's clock", (-age).Round(time.Second))
	case age > limit:
		return fmt.Sprintf("the oldest step of its layers ran %s, longer ago than %s", humanize.Time(oldest), limit)
	}
	return ""
}

// CacheTag is the tag of a template by which runs through the API reuse layers:
// how old they may be, as "24h".
const CacheTag = "goldsmith.cache-max-age"

// prepareCache derives the keys of the plan.
func (b *builder) prepareCache(ctx context.Context) error {
	if tag := b.template.Tags[CacheTag]; b.job.Service && tag != "" {
		age, err := time.ParseDuration(tag)
		if err != nil || age < 0 {
			return arm.Errorf(arm.CodeValidationFailed, "the tag %s is %q, and not a time such as 24h", CacheTag, tag).At("/tags")
		}
		b.job.Cache.MaxAge = age
	}
	b.keys = b.plan.Keys("")
	hypervisor, _, err := b.engine.vms.get(ctx)
	if err != nil {
		return err
	}
	b.fingerprint, err = hypervisor.Fingerprint(ctx, b.plan.Shape)
	return err
}

// openCheckpoint makes the run continue from the longest reusable prefix. It
// reports false when there is none, or when it could not be restored.
func (b *builder) openCheckpoint(ctx context.Context) (bool, error) {
	for {
		hit, verdicts, err := b.lookup(ctx)
		if err != nil {
			return false, err
		}
		b.verdicts = verdicts
		if hit.steps == 0 {
			return false, nil
		}
		err = b.resume(ctx, hit)
		if err == nil {
			b.done, b.oldest = hit.steps, hit.manifest.Oldest
			return true, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return false, cause
		}
		b.decide("the state after step %d %q is not usable: %v", hit.steps, b.plan.Steps[hit.steps-1].Name, err)
		if err := errors.Join(b.forget(ctx, hit, err), b.vm.close()); err != nil {
			return false, err
		}
	}
}

// forget takes the keys of layers that could not be used, so that they are made
// anew. What stands on them stays.
func (b *builder) forget(ctx context.Context, hit cacheHit, cause error) error {
	ids := []string{hit.memory.ID}
	if hit.memory.ID == "" || arm.IsCode(cause, arm.CodeCorrupt) {
		ids = append(ids, hit.disk.ID)
	}
	var errs []error
	for _, id := range ids {
		if id == "" {
			continue
		}
		if err := b.engine.layers.Forget(ctx, id); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// reportCache says of each step that did not run how old its result is, and why
// the others run.
func (b *builder) reportCache(ctx context.Context) error {
	if len(b.plan.Steps) == 0 {
		return nil
	}
	for i, step := range b.plan.Steps[:b.done] {
		text := "cached, " + humanize.Time(b.verdicts[i].at)
		b.sink.Emit(event.Event{Kind: event.StepCached, Step: step.Number, StepName: step.Name, Text: text})
	}
	changes, err := b.compareWithLast(ctx)
	if err != nil {
		return err
	}
	for i := b.done; i < len(b.plan.Steps); i++ {
		why := b.verdicts[i].text
		if why == "" {
			why = "a step before it runs"
		}
		if what := changes.Steps[i]; what != "" {
			why += "; since the last run " + what
		} else if i == b.done && changes.Whole != "" {
			why += "; since the last run " + changes.Whole
		}
		if i == b.done || b.job.Cache.Explain {
			b.decide("step %d %q runs: %s", b.plan.Steps[i].Number, b.plan.Steps[i].Name, why)
		}
	}
	return nil
}

// factsOf keeps what the keys of a template's last plan were made of.
const factsCollection = "plan-facts"

// compareWithLast compares the plan with that of the template's last run, and
// keeps it for the next.
func (b *builder) compareWithLast(ctx context.Context) (plan.Changes, error) {
	none := plan.Changes{Steps: make([]string, len(b.plan.Steps))}
	now, err := b.plan.Facts()
	if err != nil {
		return none, err
	}
	body, err := json.Marshal(now)
	if err != nil {
		return none, fmt.Errorf("encode the facts of a plan: %w", err)
	}
	facts := b.engine.db.Documents(factsCollection)
	old, err := facts.Get(ctx, b.job.TemplateID)
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return none, err
	}
	known := err == nil
	if err := b.keepFacts(ctx); err != nil {
		return none, err
	}
	if _, err := facts.Put(ctx, b.job.TemplateID, body, document.Condition{}); err != nil {
		return none, err
	}
	var before plan.Facts
	if !known || json.Unmarshal(old.Body, &before) != nil {
		return none, nil
	}
	return plan.Compare(before, now), nil
}
