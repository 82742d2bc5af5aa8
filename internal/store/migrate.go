package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

// lockForMigration makes processes that open one file for the first time take
// turns: switching to WAL and creating tables cannot be waited for in SQL.
func lockForMigration(ctx context.Context, path string) (release func(), err error) {
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	ok, err := lock.TryLockContext(ctx, 5*time.Millisecond)
	if err != nil {
		return nil, fmt.Errorf("lock for migration: %w", err)
	}
	if !ok {
		return nil, errors.New("lock for migration: it is held by another process")
	}
	return func() { _ = lock.Close() }, nil
}

// migrate brings our tables and the job queue's up to date. The caller holds
// the migration lock.
func (d *DB) migrate(ctx context.Context) error {
	ours, err := goose.NewProvider(d.dialect.goose, d.write, d.dialect.migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := ours.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	queue, err := rivermigrate.New(riversqlite.New(d.write), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("read the queue's migrations: %w", err)
	}
	if _, err := queue.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	return nil
}
