package build

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
)

// resultCollection are the finished images by the key of what made them.
const resultCollection = "results"

// knownResult is the image that a plan made.
type knownResult struct {
	Image     string      `json:"image"`
	DiskBytes int64       `json:"diskBytes"`
	Run       string      `json:"run"`
	Oldest    time.Time   `json:"oldest"` // when the oldest of its steps began
	Steps     []time.Time `json:"steps"`  // when each step's result was made
	Made      time.Time   `json:"made"`
}

// findResult looks for the finished image of the plan: then nothing has to run.
func (b *builder) findResult(ctx context.Context) (bool, error) {
	rec, err := b.engine.db.Documents(resultCollection).Get(ctx, b.keys.ResultKey())
	if arm.IsCode(err, arm.CodeNotFound) || (err == nil && b.job.Cache.FromStep != "") {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var known knownResult
	if err := json.Unmarshal(rec.Body, &known); err != nil {
		return false, arm.Errorf(arm.CodeCorrupt, "the record of a finished image does not parse: %w", err)
	}
	if why := b.stale(known.Run, known.Oldest); why != "" {
		b.decide("the finished image is not reused: %s", why)
		return false, nil
	}
	digest, err := image.ParseDigest(known.Image)
	if err != nil {
		return false, err
	}
	if err := b.engine.images.Complete(ctx, digest); err != nil {
		b.decide("the finished image is not reused: %v", err)
		return false, nil
	}
	b.image, b.done, b.verdicts = known.Image, len(b.plan.Steps), make([]verdict, len(b.plan.Steps))
	for i := range b.verdicts {
		b.verdicts[i].at = known.Made
		if i < len(known.Steps) {
			b.verdicts[i].at = known.Steps[i]
		}
	}
	b.decide("nothing changed: the image that run %.8s finished %s is published", known.Run, humanize.Time(known.Made))
	return true, nil
}

// keepResult notes what the plan made, for the next run of the same.
func (b *builder) keepResult(ctx context.Context) error {
	if b.oldest.IsZero() {
		b.oldest = b.started // a template without steps
	}
	body, err := json.Marshal(knownResult{
		Image: b.image, DiskBytes: b.plan.DiskBytes, Run: b.active.id(), Oldest: b.oldest, Steps: b.made, Made: time.Now(),
	})
	if err != nil {
		return fmt.Errorf("encode the record of the finished image: %w", err)
	}
	_, err = b.engine.db.Documents(resultCollection).Put(ctx, b.keys.ResultKey(), body, document.Condition{})
	return err
}

// forgetResults removes the records of images that are gone or were not made for
// longer than age.
func (e *Engine) forgetResults(ctx context.Context, now time.Time, age time.Duration) error {
	results := e.db.Documents(resultCollection)
	all, err := results.List(ctx, "")
	if err != nil {
		return err
	}
	for _, rec := range all {
		var known knownResult
		if json.Unmarshal(rec.Body, &known) == nil && now.Sub(known.Made) <= age {
			if digest, err := image.ParseDigest(known.Image); err == nil {
				if _, err := e.images.Stat(ctx, digest); err == nil {
					continue
				}
			}
		}
		if err := results.Delete(ctx, rec.Key, document.Condition{IfMatch: rec.ETag}); err != nil && !arm.IsCode(err, arm.CodePreconditionFailed) && !arm.IsCode(err, arm.CodeNotFound) {
			return err
		}
	}
	return nil
}

// cachedSteps reports every step as cached, in a run that boots nothing.
func (b *builder) cachedSteps(ctx context.Context) error {
	if err := b.reportCache(ctx); err != nil {
		return err
	}
	b.sink.Emit(event.Event{Kind: event.Info, Text: fmt.Sprintf("image %.12s", b.image)})
	return nil
}
