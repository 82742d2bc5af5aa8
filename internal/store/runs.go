package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

const runColumns = `id, template, state, sub_state, message, phase, failed_step, outputs, request, undo,
	owner, boot_id, epoch, version, lease_expires_at, created_at, started_at, ended_at`

const unended = `state in ('Queued', 'Running', 'Canceling')`

// runStore is run.Store over SQL. Beside the epoch, which fences owners, a row
// has a version, which orders the writes of one owner.
type runStore struct{ db *DB }

// versioned is a run with the version of its row.
type versioned struct {
	run.Record
	version int64
}

// Create implements run.Store.
func (s runStore) Create(ctx context.Context, r run.Record) (run.Record, error) {
	r, err := run.Prepare(r)
	if err != nil {
		return run.Record{}, err
	}
	outputs, undo, err := encodeLists(r)
	if err != nil {
		return run.Record{}, err
	}
	stored, err := scanRun(s.db.writing.QueryRowContext(ctx, `insert into runs (id, template, template_key, state, sub_state, message,
			phase, failed_step, outputs, request, undo, owner, boot_id, epoch, version, lease_expires_at, created_at, started_at, ended_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', '', 0, 1, 0, `+s.db.dialect.now+`, $12, 0)
		on conflict (id) do nothing returning `+runColumns,
		r.ID, r.Template, strings.ToLower(r.Template), r.State, r.SubState, r.Message,
		r.Phase, r.FailedStep, outputs, nullable(r.Request), undo, toMillis(r.StartedAt)))
	if errors.Is(err, sql.ErrNoRows) {
		err = arm.Errorf(arm.CodeConflict, "a run with this id exists already").At(r.ID)
	}
	return stored.Record, s.db.fault(ctx, "create run", err)
}

// Get implements run.Store.
func (s runStore) Get(ctx context.Context, id string) (run.Record, error) {
	r, err := s.get(ctx, s.db.read, id)
	return r.Record, s.db.fault(ctx, "read run", err)
}

func (s runStore) get(ctx context.Context, q querier, id string) (versioned, error) {
	r, err := scanRun(q.QueryRowContext(ctx, `select `+runColumns+` from runs where id = $1`, strings.ToLower(id)))
	if errors.Is(err, sql.ErrNoRows) {
		err = run.ErrNotFound(id)
	}
	return r, err
}

// Find implements run.Store.
func (s runStore) Find(ctx context.Context, idOrPrefix string) (run.Record, error) {
	from, to, err := run.PrefixRange(idOrPrefix)
	if err != nil {
		return run.Record{}, err
	}
	matches, err := collect(ctx, s.db.read, scanRun,
		`select `+runColumns+` from runs where id >= $1 and id < $2 order by id limit $3`, from, to, run.MaxMatches+1)
	if err != nil {
		return run.Record{}, s.db.fault(ctx, "find run", err)
	}
	return run.OneOf(idOrPrefix, records(matches))
}

// List implements run.Store.
func (s runStore) List(ctx context.Context, f run.Filter) ([]run.Record, error) {
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	if f.Template != "" {
		where = append(where, "template_key = "+arg(strings.ToLower(f.Template)))
	}
	if len(f.States) > 0 {
		var states []string
		for _, state := range f.States {
			states = append(states, arg(string(state)))
		}
		where = append(where, "state in ("+strings.Join(states, ", ")+")")
	}
	if f.Before != "" {
		where = append(where, "seq < (select seq from runs where id = "+arg(strings.ToLower(f.Before))+")")
	}
	query := `select ` + runColumns + ` from runs`
	if len(where) > 0 {
		query += ` where ` + strings.Join(where, " and ")
	}
	query += ` order by seq desc`
	if f.Limit > 0 {
		query += ` limit ` + arg(f.Limit)
	}
	all, err := collect(ctx, s.db.read, scanRun, query, args...)
	return records(all), s.db.fault(ctx, "list runs", err)
}

// Acquire implements run.Store.
func (s runStore) Acquire(ctx context.Context, id, owner, bootID string, lease time.Duration) (run.Record, error) {
	if owner == "" {
		return run.Record{}, arm.Errorf(arm.CodeInternal, "a run cannot be acquired without an owner's name").At(id)
	}
	now := s.db.dialect.now
	return s.change(ctx, "acquire run", id, `owner = $2, boot_id = $3, epoch = epoch + 1, lease_expires_at = `+now+` + $4,
			state = case when state = 'Queued' then 'Running' else state end,
			started_at = case when started_at = 0 then `+now+` else started_at end`,
		unended+` and (owner = '' or lease_expires_at <= `+now+`)`,
		func(r run.Record) error {
			if r.State.Ended() {
				return run.ErrEnded(r)
			}
			return arm.Errorf(arm.CodeConflict, "the run is worked by %s; wait for it, or cancel it", r.Owner).At(id)
		}, owner, bootID, lease.Milliseconds())
}

// Renew implements run.Store.
func (s runStore) Renew(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	_, err := s.change(ctx, "renew lease", id, `lease_expires_at = `+s.db.dialect.now+` + $3`,
		`epoch = $2 and owner <> ''`, func(r run.Record) error { return run.ErrFenced(r, epoch) },
		epoch, lease.Milliseconds())
	return err
}

// Expire implements run.Store.
func (s runStore) Expire(ctx context.Context, id string, epoch int64) (run.Record, error) {
	return s.change(ctx, "expire run", id, `owner = '', boot_id = '', lease_expires_at = 0, epoch = epoch + 1`,
		`epoch = $2 and `+unended, func(r run.Record) error {
			if r.Epoch != epoch {
				return run.ErrFenced(r, epoch)
			}
			return run.ErrEnded(r)
		}, epoch)
}

// RequestCancel implements run.Store.
func (s runStore) RequestCancel(ctx context.Context, id string) (run.Record, error) {
	return s.change(ctx, "cancel run", id, `
			ended_at = case when state = 'Queued' then `+s.db.dialect.now+` else ended_at end,
			state = case when state = 'Queued' then 'Canceled' else 'Canceling' end`,
		unended, run.ErrEnded)
}

// change makes one guarded write to a run: $1 is its id and args follow. When
// the guard does not hold, refuse makes the error from the record as it is.
func (s runStore) change(ctx context.Context, what, id, set, guard string, refuse func(run.Record) error, args ...any) (run.Record, error) {
	id = strings.ToLower(id)
	var changed versioned
	err := s.db.tx(ctx, func(tx transaction) (err error) {
		changed, err = scanRun(tx.QueryRowContext(ctx,
			`update runs set `+set+`, version = version + 1 where id = $1 and `+guard+` returning `+runColumns,
			append([]any{id}, args...)...))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		r, err := s.get(ctx, tx, id)
		if err != nil {
			return err
		}
		return refuse(r.Record)
	})
	if err != nil {
		return run.Record{}, s.db.fault(ctx, what, err)
	}
	return changed.Record, nil
}

// Update implements run.Store.
func (s runStore) Update(ctx context.Context, id string, epoch int64, change func(*run.Record) error) (run.Record, error) {
	for {
		before, err := s.get(ctx, s.db.read, id)
		if err != nil {
			return run.Record{}, s.db.fault(ctx, "update run", err)
		}
		if before.Epoch != epoch {
			return run.Record{}, run.ErrFenced(before.Record, epoch)
		}
		after, err := run.Apply(before.Record, change)
		if err != nil {
			return run.Record{}, err
		}
		stored, err := s.replace(ctx, after, before.version)
		// Either a newer version, which the next round reads, or a newer epoch,
		// which it refuses.
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		return stored.Record, s.db.fault(ctx, "update run", err)
	}
}

func (s runStore) replace(ctx context.Context, r run.Record, version int64) (versioned, error) {
	outputs, undo, err := encodeLists(r)
	if err != nil {
		return versioned{}, err
	}
	return scanRun(s.db.writing.QueryRowContext(ctx, `update runs set template = $4, template_key = $5, state = $6, sub_state = $7,
			message = $8, phase = $9, failed_step = $10, outputs = $11, request = $12, undo = $13,
			owner = $14, boot_id = $15, lease_expires_at = case when $14 = '' then 0 else lease_expires_at end,
			started_at = $16, ended_at = case when $17 = 0 and state <> $6 and $18 then `+s.db.dialect.now+` else $17 end,
			version = version + 1
		where id = $1 and epoch = $2 and version = $3 returning `+runColumns,
		r.ID, r.Epoch, version, r.Template, strings.ToLower(r.Template), r.State, r.SubState,
		r.Message, r.Phase, r.FailedStep, outputs, nullable(r.Request), undo,
		r.Owner, r.BootID, toMillis(r.StartedAt), toMillis(r.EndedAt), r.State.Ended()))
}

// Delete implements run.Store. The run's pins go with it.
func (s runStore) Delete(ctx context.Context, id string) error {
	id = strings.ToLower(id)
	return s.db.fault(ctx, "delete run", s.db.tx(ctx, func(tx transaction) error {
		r, err := s.get(ctx, tx, id)
		if err != nil {
			return err
		}
		if !r.State.Ended() {
			return arm.Errorf(arm.CodeNotAllowed, "the run is %s; cancel it before deleting it", r.State).At(id)
		}
		if _, err := tx.ExecContext(ctx, `delete from pins where run_id = $1`, id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `delete from runs where id = $1`, id)
		return err
	}))
}

func encodeLists(r run.Record) (outputs, undo any, err error) {
	if len(r.Outputs) > 0 {
		raw, err := json.Marshal(r.Outputs)
		if err != nil {
			return nil, nil, err
		}
		outputs = string(raw)
	}
	if len(r.Undo) > 0 {
		raw, err := json.Marshal(r.Undo)
		if err != nil {
			return nil, nil, err
		}
		undo = string(raw)
	}
	return outputs, undo, nil
}

func scanRun(row scanner) (versioned, error) {
	var r versioned
	var outputs, request, undo sql.NullString
	var lease, created, started, ended int64
	err := row.Scan(&r.ID, &r.Template, &r.State, &r.SubState, &r.Message, &r.Phase, &r.FailedStep,
		&outputs, &request, &undo, &r.Owner, &r.BootID, &r.Epoch, &r.version, &lease, &created, &started, &ended)
	if err != nil {
		return versioned{}, err
	}
	if outputs.Valid {
		err = json.Unmarshal([]byte(outputs.String), &r.Outputs)
	}
	if undo.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(undo.String), &r.Undo))
	}
	r.Request = text(request)
	r.LeaseExpires, r.CreatedAt = fromMillis(lease), fromMillis(created)
	r.StartedAt, r.EndedAt = fromMillis(started), fromMillis(ended)
	return r, err
}

func records(all []versioned) []run.Record {
	var rs []run.Record
	for _, r := range all {
		rs = append(rs, r.Record)
	}
	return rs
}
