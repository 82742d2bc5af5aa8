package queue

import (
	"context"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"goldsmith/internal/arm"
)

// Serve works delivered runs, up to slots of them side by side, until ctx ends.
// Then it ends the running works with ErrStopping, waits for them, and leaves
// their runs unended for the next start.
func (q *Queue) Serve(ctx context.Context, slots int) error {
	stop, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{queue: q, stop: stop}); err != nil {
		return arm.Errorf(arm.CodeInternal, "set up the worker: %w", err)
	}
	client, err := river.NewClient(riversqlite.New(q.writer), &river.Config{
		Logger:            q.opts.Logger,
		Queues:            map[string]river.QueueConfig{buildQueue: {MaxWorkers: slots}},
		Workers:           workers,
		FetchCooldown:     10 * time.Millisecond,
		FetchPollInterval: time.Second,
	})
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "set up the queue: %w", err)
	}
	whole := context.WithoutCancel(ctx)
	if err := client.Start(whole); err != nil {
		return arm.Errorf(arm.CodeInternal, "start the queue: %w", err)
	}
	<-ctx.Done()
	cancel(ErrStopping)
	if err := client.Stop(whole); err != nil {
		return arm.Errorf(arm.CodeInternal, "stop the queue: %w", err)
	}
	return nil
}
