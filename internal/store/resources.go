package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

const resourceColumns = `id, type, name, location, kind, tags, identity, properties, other, internal, etag, created_at, updated_at`

// resourceStore is resource.Store over SQL.
type resourceStore struct{ db *DB }

// Get implements resource.Store.
func (s *resourceStore) Get(ctx context.Context, id string) (resource.Record, error) {
	r, err := scanResource(s.db.read.QueryRowContext(ctx, `select `+resourceColumns+` from resources where key = $1`, resource.Key(id)))
	return r, s.db.fault(ctx, "read resource", missing(err, id, "the resource"))
}

// Put implements resource.Store.
func (s *resourceStore) Put(ctx context.Context, r resource.Record, cond resource.Condition) (resource.Record, bool, error) {
	if err := resource.Check(r); err != nil {
		return resource.Record{}, false, err
	}
	var stored resource.Record
	var created bool
	err := s.db.tx(ctx, func(tx transaction) (err error) {
		stored, created, err = s.put(ctx, tx, r, cond)
		return err
	})
	if err != nil {
		return resource.Record{}, false, s.db.fault(ctx, "write resource", err)
	}
	return stored, created, nil
}

func (s *resourceStore) put(ctx context.Context, tx transaction, r resource.Record, cond resource.Condition) (resource.Record, bool, error) {
	key, now := resource.Key(r.ID), s.db.dialect.now
	tags, err := json.Marshal(r.Tags)
	if err != nil {
		return resource.Record{}, false, err
	}
	if r.Tags == nil {
		tags = []byte("{}")
	}
	args := []any{
		key, r.ID, r.Type, strings.ToLower(r.Type), r.Name, r.Location, r.Kind, string(tags),
		nullable(r.Identity), nullable(r.Properties), nullable(r.Internal), uuid.NewString(), nullable(r.Other),
	}
	const fields = `type = $3, type_key = $4, location = $6, kind = $7, tags = $8,
		identity = $9, properties = $10, internal = $11, etag = $12, other = $13`
	insert := `insert into resources (key, id, type, type_key, name, location, kind, tags,
			identity, properties, internal, etag, other, version, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, ` + now + `, ` + now + `) `
	returning := ` returning ` + resourceColumns + `, version`

	var query string
	switch {
	case cond.IfMatch != "":
		// $2 and $5 stay unused: the casing of the first writer is kept.
		query = `update resources set ` + fields + `, version = version + 1, updated_at = ` + now + `
			where key = $1 and etag = $14 and ($2 <> '') and ($5 is not null)` + returning
		args = append(args, cond.IfMatch)
	case cond.IfNoneMatch:
		query = insert + `on conflict (key) do nothing` + returning
	default:
		query = insert + `on conflict (key) do update set ` + fields + `, version = resources.version + 1, updated_at = ` + now + returning
	}
	if cond.IfMatch != "" && cond.IfNoneMatch {
		return resource.Record{}, false, resource.ErrPrecondition(r.ID)
	}
	if cond.Within != "" {
		var one int
		err := tx.QueryRowContext(ctx, `select 1 from resources where key = $1`, resource.Key(cond.Within)).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return resource.Record{}, false, resource.ErrAbsent(cond.Within)
		}
		if err != nil {
			return resource.Record{}, false, err
		}
	}
	var version int64
	stored, err := scanResource(withMore(tx.QueryRowContext(ctx, query, args...), &version))
	if errors.Is(err, sql.ErrNoRows) {
		return resource.Record{}, false, resource.ErrPrecondition(r.ID)
	}
	if err != nil {
		return resource.Record{}, false, err
	}
	return stored, version == 1, s.putTags(ctx, tx, key, r.Tags, version == 1)
}

func (s *resourceStore) putTags(ctx context.Context, tx transaction, key string, tags map[string]string, created bool) error {
	if !created {
		if _, err := tx.ExecContext(ctx, `delete from resource_tags where resource_key = $1`, key); err != nil {
			return err
		}
	}
	for name, value := range tags {
		if _, err := tx.ExecContext(ctx,
			`insert into resource_tags (tag_key, resource_key, value) values ($1, $2, $3)`,
			strings.ToLower(name), key, value); err != nil {
			return err
		}
	}
	return nil
}

// Update implements resource.Store.
func (s *resourceStore) Update(ctx context.Context, id string, change func(*resource.Record) error) (resource.Record, error) {
	for {
		r, err := s.Get(ctx, id)
		if err != nil {
			return resource.Record{}, err
		}
		etag, storedID := r.ETag, r.ID
		if err := change(&r); err != nil {
			return resource.Record{}, err
		}
		r.ID = storedID
		stored, _, err := s.Put(ctx, r, resource.Condition{IfMatch: etag})
		// Somebody else's write made progress, so this ends.
		if arm.IsCode(err, arm.CodePreconditionFailed) {
			continue
		}
		return stored, err
	}
}

// Delete implements resource.Store.
func (s *resourceStore) Delete(ctx context.Context, id string, cond resource.Condition) ([]string, error) {
	key := resource.Key(id)
	var removed []string
	err := s.db.tx(ctx, func(tx transaction) error {
		var etag string
		err := tx.QueryRowContext(ctx, `select etag from resources where key = $1`, key).Scan(&etag)
		if err != nil {
			return missing(err, id, "the resource")
		}
		if cond.IfNoneMatch || (cond.IfMatch != "" && cond.IfMatch != etag) {
			return resource.ErrPrecondition(id)
		}
		from, to := resource.Below(id)
		removed, err = collect(ctx, tx, scanString,
			`select id from resources where key = $1 or (key >= $2 and key < $3) order by key`, key, from, to)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `delete from resources where key = $1 or (key >= $2 and key < $3)`, key, from, to)
		return err
	})
	if err != nil {
		return nil, s.db.fault(ctx, "delete resource", err)
	}
	return removed, nil
}

func scanResource(row scanner) (resource.Record, error) {
	var r resource.Record
	var tags string
	var identity, properties, other, internal sql.NullString
	var created, updated int64
	err := row.Scan(&r.ID, &r.Type, &r.Name, &r.Location, &r.Kind, &tags, &identity, &properties, &other, &internal,
		&r.ETag, &created, &updated)
	if err != nil {
		return resource.Record{}, err
	}
	r.Identity, r.Properties, r.Other, r.Internal = text(identity), text(properties), text(other), text(internal)
	r.CreatedAt, r.UpdatedAt = fromMillis(created), fromMillis(updated)
	r.Tags = map[string]string{}
	if tags != "{}" {
		err = json.Unmarshal([]byte(tags), &r.Tags)
	}
	return r, err
}

func scanString(row scanner) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}

// withMore is row with further columns behind those that its reader asks for.
func withMore(row scanner, more ...any) scanner { return moreColumns{row, more} }

type moreColumns struct {
	scanner
	more []any
}

func (m moreColumns) Scan(dest ...any) error { return m.scanner.Scan(append(dest, m.more...)...) }
