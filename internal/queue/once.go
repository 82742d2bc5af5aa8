package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// RunOne works one queued run in this process and returns its record at the end.
// The caller holds the run's lock, from before the run was created until RunOne
// has returned. The end of ctx cancels the run; RunOne waits until it is undone.
//
// The run has a queue of its own and this client takes no part in leader
// election, so no other run's job is touched.
func (q *Queue) RunOne(ctx context.Context, held *RunLock) (run.Record, error) {
	id := held.ID
	// From here on everything must come to its end, whatever happens to ctx.
	whole := context.WithoutCancel(ctx)
	r, err := q.runs.Get(whole, id)
	if err != nil {
		return run.Record{}, err
	}
	queue := "run-" + id
	// A job that is there before the client starts is found by its first fetch,
	// in milliseconds; a later one would wait for a poll.
	if err := q.insert(whole, r, queue); err != nil {
		return run.Record{}, err
	}
	err = q.workQueue(ctx, queue, held)
	err = errors.Join(err, q.forget(whole, queue))
	r, getErr := q.runs.Get(whole, id)
	if err = errors.Join(err, getErr); err != nil {
		return run.Record{}, err
	}
	if r.State == run.Queued {
		// The end of ctx came before the job was fetched.
		return q.runs.RequestCancel(whole, id)
	}
	return r, nil
}

// workQueue works a one-shot queue until its only job is done or ctx ends.
func (q *Queue) workQueue(ctx context.Context, queue string, held *RunLock) error {
	done := make(chan struct{})
	workers := river.NewWorkers()
	w := &worker{queue: q, stop: ctx, held: held}
	if err := river.AddWorkerSafely(workers, &oneShot{worker: w, done: done}); err != nil {
		return arm.Errorf(arm.CodeInternal, "set up the worker: %w", err).At(held.ID)
	}
	client, err := river.NewClient(riversqlite.New(q.writer), &river.Config{
		Logger:                 q.opts.Logger,
		Queues:                 map[string]river.QueueConfig{queue: {MaxWorkers: 1}},
		Workers:                workers,
		LeaderElectionDisabled: true,
		PollOnly:               true,
		FetchCooldown:          100 * time.Millisecond,
		FetchPollInterval:      time.Second,
	})
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "set up the queue: %w", err).At(held.ID)
	}
	whole := context.WithoutCancel(ctx)
	if err := client.Start(whole); err != nil {
		return arm.Errorf(arm.CodeInternal, "start the queue: %w", err).At(held.ID)
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	// Stop waits for a running job, which ctx has cancelled.
	if err := client.Stop(whole); err != nil {
		return arm.Errorf(arm.CodeInternal, "stop the queue: %w", err).At(held.ID)
	}
	return nil
}

// oneShot is a worker that tells when its job is done.
type oneShot struct {
	*worker
	once sync.Once
	done chan struct{}
}

func (o *oneShot) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	defer o.once.Do(func() { close(o.done) })
	return o.worker.Work(ctx, job)
}

// forget removes what is left of a one-shot queue. The job queue's own cleaning
// is a leader's duty, leaves jobs of dead workers alone, and has no call for it.
func (q *Queue) forget(ctx context.Context, queue string) error {
	for _, statement := range []string{
		`delete from river_job where queue = $1`,
		`delete from river_queue where name = $1`,
	} {
		if _, err := q.writer.ExecContext(ctx, statement, queue); err != nil {
			return arm.Errorf(arm.CodeInternal, "clean up the queue: %w", err).At(queue)
		}
	}
	return nil
}
