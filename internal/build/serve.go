package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// provisioners is how many templates are provisioned side by side: most of that
// is waiting for downloads.
const provisioners = 4

// scanPage is how many templates the search for unfinished ones reads at once.
const scanPage = 500

// Serve works queued runs, up to slots of them side by side, provisions and
// deletes templates, and looks after runs whose process died, until ctx ends.
// What was unfinished when the last service ended, however it ended, is taken up
// first. At the end of ctx running builds are undone and left for the next
// start; Serve returns when that is done.
//
// One service works a data directory at a time.
func (e *Engine) Serve(ctx context.Context, slots int) error {
	if slots < 1 {
		return arm.Errorf(arm.CodeUsage, "a service needs at least one build slot, not %d", slots)
	}
	e.slots.Store(int64(slots))
	defer e.slots.Store(0)
	reaped, err := e.queue.Reap(ctx, nil, e.takeUp)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("take up unfinished runs: %w", err)
	}
	if len(reaped) > 0 {
		if err := e.catalog.Sweep(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	failures := make(chan error, 1)
	group.Go(func() {
		defer cancel() // without a queue there is no service
		failures <- e.queue.Serve(ctx, slots)
	})
	group.Go(func() { e.tend(ctx) })
	group.Go(func() { e.findUnfinished(ctx) })
	group.Go(func() { e.verifyDaily(ctx) })
	for range provisioners {
		group.Go(func() { e.workTemplates(ctx) })
	}
	group.Wait()
	return <-failures
}

// tend does what is due from time to time.
func (e *Engine) tend(ctx context.Context) {
	tick := time.NewTicker(reapRhythm)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.pending.retry()
		if _, err := e.queue.Reap(ctx, func(r run.Record) bool { return r.Owner != "" }, e.takeUp); err != nil {
			e.complain(ctx, "take up runs of dead processes", err)
		}
		if err := e.PullTriggers(ctx); err != nil {
			e.complain(ctx, "look at triggers", err)
		}
		if err := e.collectDue(ctx); err != nil {
			e.complain(ctx, "collect garbage", err)
		}
	}
}

// findUnfinished finds the templates that were being made or deleted when the
// last service ended.
func (e *Engine) findUnfinished(ctx context.Context) {
	q := resource.Query{Scope: "/subscriptions/" + e.subscription, Type: typeTemplate, PageSize: scanPage}
	for {
		page, next, err := e.resources.List(ctx, q)
		if err != nil {
			e.complain(ctx, "find unfinished templates", err)
			return
		}
		for _, r := range page {
			switch provisioningState(r) {
			case StateCreating, StateUpdating, StateDeleting:
				e.pending.add(r.ID)
			}
		}
		if q.PageToken = next; next == "" {
			return
		}
	}
}

// workTemplates works pending templates until ctx ends.
func (e *Engine) workTemplates(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.pending.wake:
		}
		for ctx.Err() == nil {
			id, ok := e.pending.next()
			if !ok {
				break
			}
			err := e.ProvisionTemplate(ctx, id)
			if err = errors.Join(ignoreNotFound(err), e.finishDelete(ctx, id)); err != nil {
				e.complain(ctx, "work on "+id, err)
				e.pending.later(id)
			}
			e.pending.done(id)
		}
	}
}

// complain logs trouble that no client waits for; the next round tries again.
func (e *Engine) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		e.logger.ErrorContext(ctx, what, slog.Any("error", err))
	}
}
