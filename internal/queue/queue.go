// Package queue delivers runs to workers and keeps their leases. The truth about
// a run is its record; the job queue (River) only rings the bell.
package queue

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// buildQueue is the queue that services work.
const buildQueue = "build"

// Work builds one run. ctx ends when the run is to be cancelled, the lease is
// lost or the process stops; context.Cause tells which (CodeCanceled,
// ErrLeaseLost, ErrStopping, or what the caller of RunOne gave). Work undoes what
// it acquired before it returns, unless the lease is lost.
//
// Work sets the run's final state through the lease. If it has not, its error
// decides: Succeeded, Canceled or Failed.
type Work func(ctx context.Context, lease *Lease) error

// Options of a Queue. Zero values stand for the defaults.
type Options struct {
	Owner  string        // name of this worker, unique among all; default host, pid and start time
	Lease  time.Duration // how long a lease lasts without renewal; default 30 s
	Renew  time.Duration // how often it is renewed; default a third of Lease
	Look   time.Duration // how often a request to cancel is looked for; default 500 ms
	Logger *slog.Logger  // takes the job queue's own warnings; default none
}

// Queue delivers runs and works them.
type Queue struct {
	writer *sql.DB
	runs   run.Store
	locks  Locks
	work   Work
	opts   Options
	bootID string
}

// New makes a queue over the pool of the database's writing connection.
func New(writer *sql.DB, runs run.Store, locks Locks, work Work, opts Options) (*Queue, error) {
	bootID, err := BootID()
	if err != nil {
		return nil, err
	}
	if opts.Owner == "" {
		opts.Owner, err = ownerName()
		if err != nil {
			return nil, err
		}
	}
	if opts.Lease <= 0 {
		opts.Lease = 30 * time.Second
	}
	if opts.Renew <= 0 {
		opts.Renew = opts.Lease / 3
	}
	if opts.Look <= 0 {
		opts.Look = 500 * time.Millisecond
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Queue{writer: writer, runs: runs, locks: locks, work: work, opts: opts, bootID: bootID}, nil
}

// BootID identifies this start of the host's kernel.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "read the boot id: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func ownerName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "read the host name: %w", err)
	}
	// The time tells apart two processes that got the same pid.
	return host + "/" + strconv.Itoa(os.Getpid()) + "/" + strconv.FormatInt(time.Now().UnixMilli(), 36), nil
}

// Deliver puts a run at the epoch of its record in front of the services'
// workers. Delivering one epoch twice is delivering it once.
func (q *Queue) Deliver(ctx context.Context, r run.Record) error {
	return q.insert(ctx, r, buildQueue)
}

// insert adds the job of one epoch of a run. The epoch is part of what makes a
// job unique: the job of an earlier owner may still be there, as if it ran.
func (q *Queue) insert(ctx context.Context, r run.Record, queue string) error {
	client, err := river.NewClient(riversqlite.New(q.writer), &river.Config{Logger: q.opts.Logger})
	if err == nil {
		_, err = client.Insert(ctx, jobArgs{Run: r.ID, Epoch: r.Epoch}, &river.InsertOpts{
			Queue:       queue,
			MaxAttempts: 1, // another attempt is another epoch, and so another job
			UniqueOpts:  river.UniqueOpts{ByArgs: true},
		})
	}
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "queue the run: %w", err).At(r.ID)
	}
	return nil
}

// jobArgs are what a job carries.
type jobArgs struct {
	Run   string `json:"run" river:"unique"`
	Epoch int64  `json:"epoch" river:"unique"`
}

// Kind names the job's type in the queue's tables.
func (jobArgs) Kind() string { return "goldsmith.run" }
