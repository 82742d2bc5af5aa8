package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

type runStore struct{ db *DB }

type runRow struct {
	run.Record
	seq, version int64
}

func (s runStore) Create(ctx context.Context, r run.Record) (run.Record, error) {
	r, err := run.Prepare(r)
	if err != nil {
		return run.Record{}, err
	}
	defer s.db.lock()()
	if _, taken := s.db.runs[r.ID]; taken {
		return run.Record{}, arm.Errorf(arm.CodeConflict, "a run with this id exists already").At(r.ID)
	}
	r.CreatedAt, r.EndedAt = now(), time.Time{}
	s.db.runs[r.ID] = &runRow{Record: r, seq: s.db.next()}
	return cloneRun(r), ctx.Err()
}

func (s runStore) Get(ctx context.Context, id string) (run.Record, error) {
	defer s.db.lock()()
	row, err := s.row(id)
	if err != nil {
		return run.Record{}, err
	}
	return cloneRun(row.Record), ctx.Err()
}

func (s runStore) row(id string) (*runRow, error) {
	row, ok := s.db.runs[strings.ToLower(id)]
	if !ok {
		return nil, run.ErrNotFound(id)
	}
	return row, nil
}

func (s runStore) Find(ctx context.Context, idOrPrefix string) (run.Record, error) {
	from, to, err := run.PrefixRange(idOrPrefix)
	if err != nil {
		return run.Record{}, err
	}
	defer s.db.lock()()
	matches := s.sorted(func(r *runRow) bool { return r.ID >= from && r.ID < to }, by(func(r *runRow) string { return r.ID }))
	return run.OneOf(idOrPrefix, matches)
}

func (s runStore) List(ctx context.Context, f run.Filter) ([]run.Record, error) {
	defer s.db.lock()()
	before := s.db.runs[strings.ToLower(f.Before)]
	all := s.sorted(func(r *runRow) bool {
		return (f.Before == "" || before != nil && r.seq < before.seq) && (f.Template == "" || strings.EqualFold(f.Template, r.Template)) &&
			(len(f.States) == 0 || slices.Contains(f.States, r.State))
	}, by(func(r *runRow) int64 { return -r.seq }))
	if f.Limit > 0 {
		all = all[:min(len(all), f.Limit)]
	}
	return all, ctx.Err()
}

func (s runStore) sorted(keep func(*runRow) bool, order func(a, b *runRow) int) []run.Record {
	var all []run.Record
	for _, r := range sorted(s.db.runs, keep, order) {
		all = append(all, cloneRun(r.Record))
	}
	return all
}

func (s runStore) Acquire(ctx context.Context, id, owner, bootID string, lease time.Duration) (run.Record, error) {
	if owner == "" {
		return run.Record{}, arm.Errorf(arm.CodeInternal, "a run cannot be acquired without an owner's name").At(id)
	}
	return s.change(ctx, id, func(r *run.Record) error {
		switch {
		case r.State.Ended():
			return run.ErrEnded(*r)
		case r.Owner != "" && r.LeaseExpires.After(now()):
			return arm.Errorf(arm.CodeConflict, "the run is worked by %s; wait for it, or cancel it", r.Owner).At(id)
		}
		r.Owner, r.BootID, r.LeaseExpires = owner, bootID, now().Add(lease)
		r.Epoch++
		if r.State == run.Queued {
			r.State = run.Running
		}
		if r.StartedAt.IsZero() {
			r.StartedAt = now()
		}
		return nil
	})
}

func (s runStore) Renew(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	_, err := s.change(ctx, id, func(r *run.Record) error {
		if r.Epoch != epoch || r.Owner == "" {
			return run.ErrFenced(*r, epoch)
		}
		r.LeaseExpires = now().Add(lease)
		return nil
	})
	return err
}

func (s runStore) Expire(ctx context.Context, id string, epoch int64) (run.Record, error) {
	return s.change(ctx, id, func(r *run.Record) error {
		switch {
		case r.Epoch != epoch:
			return run.ErrFenced(*r, epoch)
		case r.State.Ended():
			return run.ErrEnded(*r)
		}
		r.Owner, r.BootID, r.LeaseExpires = "", "", time.Time{}
		r.Epoch++
		return nil
	})
}

func (s runStore) RequestCancel(ctx context.Context, id string) (run.Record, error) {
	return s.change(ctx, id, func(r *run.Record) error {
		switch {
		case r.State.Ended():
			return run.ErrEnded(*r)
		case r.State == run.Queued:
			r.State, r.EndedAt = run.Canceled, now()
		default:
			r.State = run.Canceling
		}
		return nil
	})
}

func (s runStore) change(ctx context.Context, id string, change func(*run.Record) error) (run.Record, error) {
	if err := ctx.Err(); err != nil {
		return run.Record{}, arm.Errorf(arm.CodeCanceled, "write run: %w", err)
	}
	defer s.db.lock()()
	row, err := s.row(id)
	if err != nil {
		return run.Record{}, err
	}
	r := cloneRun(row.Record)
	if err := change(&r); err != nil {
		return run.Record{}, err
	}
	row.Record, row.version = r, row.version+1
	return cloneRun(r), nil
}

// Update calls change outside the lock, as a database would, and repeats it when
// somebody else wrote in between.
func (s runStore) Update(ctx context.Context, id string, epoch int64, change func(*run.Record) error) (run.Record, error) {
	for {
		before, version, err := s.under(id, epoch)
		if err != nil {
			return run.Record{}, err
		}
		after, err := run.Apply(before, change)
		if err != nil {
			return run.Record{}, err
		}
		if after.State.Ended() && !before.State.Ended() && after.EndedAt.IsZero() {
			after.EndedAt = now()
		}
		stale := false
		stored, err := s.change(ctx, id, func(r *run.Record) error {
			if stale = s.db.runs[r.ID].version != version; !stale {
				*r = after
			}
			return nil
		})
		if err != nil || !stale {
			return stored, err
		}
	}
}

func (s runStore) under(id string, epoch int64) (run.Record, int64, error) {
	defer s.db.lock()()
	row, err := s.row(id)
	if err != nil {
		return run.Record{}, 0, err
	}
	if row.Epoch != epoch {
		return run.Record{}, 0, run.ErrFenced(row.Record, epoch)
	}
	return cloneRun(row.Record), row.version, nil
}

func (s runStore) Delete(ctx context.Context, id string) error {
	defer s.db.lock()()
	row, err := s.row(id)
	if err != nil {
		return err
	}
	if !row.State.Ended() {
		return arm.Errorf(arm.CodeNotAllowed, "the run is %s; cancel it before deleting it", row.State).At(id)
	}
	delete(s.db.runs, row.ID)
	for p := range s.db.pins {
		if p.run == row.ID {
			delete(s.db.pins, p)
		}
	}
	return ctx.Err()
}

// cloneRun is a deep copy with the empty lists that a database gives back.
func cloneRun(r run.Record) run.Record {
	r.Outputs, r.Undo, r.Request = slices.Clone(r.Outputs), slices.Clone(r.Undo), slices.Clone(r.Request)
	if len(r.Outputs) == 0 {
		r.Outputs = nil
	}
	if len(r.Undo) == 0 {
		r.Undo = nil
	}
	return r
}
