package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/layer"
)

const layerColumns = `id, coalesce(key, ''), kind, coalesce(parent, ''), base, run, bytes, manifest, created_at, last_used_at`

// layerIndex is layer.Index over SQL.
type layerIndex struct{ db *DB }

// Insert implements layer.Index.
func (s layerIndex) Insert(ctx context.Context, r layer.Record) (layer.Record, bool, error) {
	if err := layer.Check(r); err != nil {
		return layer.Record{}, false, err
	}
	var stored layer.Record
	won := false
	err := s.db.tx(ctx, func(tx transaction) (err error) {
		if r.Key != "" {
			stored, err = s.byKey(ctx, tx, r.Kind, r.Key)
			if !arm.IsCode(err, arm.CodeNotFound) {
				return err
			}
		}
		if r.Parent != "" {
			if _, err := s.get(ctx, tx, r.Parent); err != nil {
				return err
			}
		}
		stored, err = scanLayer(tx.QueryRowContext(ctx, `insert into layers
				(id, key, kind, parent, base, run, bytes, manifest, created_at, last_used_at)
			values ($1, nullif($2, ''), $3, nullif($4, ''), $5, $6, $7, $8, `+s.db.dialect.now+`, `+s.db.dialect.now+`)
			on conflict (id) do nothing returning `+layerColumns,
			r.ID, r.Key, r.Kind, r.Parent, r.Base, r.Run, r.Bytes, nullable(r.Manifest)))
		if errors.Is(err, sql.ErrNoRows) {
			return layer.ErrTaken(r.ID)
		}
		won = err == nil
		return err
	})
	if err != nil {
		return layer.Record{}, false, s.db.fault(ctx, "commit layer", err)
	}
	return stored, won, nil
}

// ByKey implements layer.Index.
func (s layerIndex) ByKey(ctx context.Context, kind layer.Kind, key string) (layer.Record, error) {
	r, err := s.byKey(ctx, s.db.read, kind, key)
	return r, s.db.fault(ctx, "look up layer", err)
}

func (s layerIndex) byKey(ctx context.Context, q querier, kind layer.Kind, key string) (layer.Record, error) {
	r, err := scanLayer(q.QueryRowContext(ctx, `select `+layerColumns+` from layers where kind = $1 and key = $2`, kind, key))
	return r, missing(err, key, "a layer with this key")
}

// Get implements layer.Index.
func (s layerIndex) Get(ctx context.Context, id string) (layer.Record, error) {
	r, err := s.get(ctx, s.db.read, id)
	return r, s.db.fault(ctx, "read layer", err)
}

func (s layerIndex) get(ctx context.Context, q querier, id string) (layer.Record, error) {
	r, err := scanLayer(q.QueryRowContext(ctx, `select `+layerColumns+` from layers where id = $1`, id))
	return r, missing(err, id, "the layer")
}

// Touch implements layer.Index.
func (s layerIndex) Touch(ctx context.Context, id string) error {
	err := s.db.write.QueryRowContext(ctx,
		`update layers set last_used_at = `+s.db.dialect.now+` where id = $1 returning id`, id).Scan(new(string))
	return s.db.fault(ctx, "touch layer", missing(err, id, "the layer"))
}

// Forget implements layer.Index.
func (s layerIndex) Forget(ctx context.Context, id string) error {
	err := s.db.write.QueryRowContext(ctx, `update layers set key = null where id = $1 returning id`, id).Scan(new(string))
	return s.db.fault(ctx, "forget layer", missing(err, id, "the layer"))
}

// List implements layer.Index.
func (s layerIndex) List(ctx context.Context, f layer.Filter) ([]layer.Record, error) {
	where := []string{"1 = 1"}
	var args []any
	equal := func(column, value string) {
		if value != "" {
			args = append(args, value)
			where = append(where, column+" = $"+strconv.Itoa(len(args)))
		}
	}
	equal("kind", string(f.Kind))
	equal("base", f.Base)
	equal("run", f.Run)
	if !f.UnusedSince.IsZero() {
		args = append(args, toMillis(f.UnusedSince))
		where = append(where, "last_used_at < $"+strconv.Itoa(len(args)))
	}
	if f.Collectables {
		where = append(where, `not exists (select 1 from layers c where c.parent = l.id)`,
			`not exists (select 1 from pins p where p.layer_id = l.id)`)
	}
	all, err := collect(ctx, s.db.read, scanLayer,
		`select `+layerColumns+` from layers l where `+strings.Join(where, " and ")+` order by last_used_at, id`, args...)
	return all, s.db.fault(ctx, "list layers", err)
}

// Delete implements layer.Index.
func (s layerIndex) Delete(ctx context.Context, id string) error {
	return s.db.fault(ctx, "delete layer", s.db.tx(ctx, func(tx transaction) error {
		if _, err := s.get(ctx, tx, id); err != nil {
			return err
		}
		above, err := collect(ctx, tx, scanString, `select id from layers where parent = $1 order by id limit 1`, id)
		if err != nil {
			return err
		}
		pinned, err := collect(ctx, tx, scanString, `select run_id from pins where layer_id = $1 order by run_id limit 1`, id)
		if err != nil {
			return err
		}
		if len(above)+len(pinned) > 0 {
			return layer.ErrInUse(id, above, pinned)
		}
		_, err = tx.ExecContext(ctx, `delete from layers where id = $1`, id)
		return err
	}))
}

// Pin implements layer.Index.
func (s layerIndex) Pin(ctx context.Context, runID, layerID string) error {
	return s.db.fault(ctx, "pin layer", s.db.tx(ctx, func(tx transaction) error {
		if _, err := s.get(ctx, tx, layerID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx,
			`insert into pins (run_id, layer_id) values ($1, $2) on conflict do nothing`, strings.ToLower(runID), layerID)
		return err
	}))
}

// Unpin implements layer.Index.
func (s layerIndex) Unpin(ctx context.Context, runID, layerID string) error {
	_, err := s.db.write.ExecContext(ctx,
		`delete from pins where run_id = $1 and ($2 = '' or layer_id = $2)`, strings.ToLower(runID), layerID)
	return s.db.fault(ctx, "unpin layer", err)
}

// PinsOf implements layer.Index.
func (s layerIndex) PinsOf(ctx context.Context, runID string) ([]string, error) {
	ids, err := collect(ctx, s.db.read, scanString,
		`select layer_id from pins where run_id = $1 order by layer_id`, strings.ToLower(runID))
	return ids, s.db.fault(ctx, "list pins", err)
}

func scanLayer(row scanner) (layer.Record, error) {
	var r layer.Record
	var manifest sql.NullString
	var created, used int64
	err := row.Scan(&r.ID, &r.Key, &r.Kind, &r.Parent, &r.Base, &r.Run, &r.Bytes, &manifest, &created, &used)
	r.Manifest = text(manifest)
	r.CreatedAt, r.LastUsedAt = fromMillis(created), fromMillis(used)
	return r, err
}
