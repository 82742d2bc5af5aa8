package store

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/document"
)

const documentColumns = `name, body, etag, updated_at`

// documentStore is document.Store over SQL.
type documentStore struct {
	db         *DB
	collection string
}

// Get implements document.Store.
func (s documentStore) Get(ctx context.Context, key string) (document.Record, error) {
	r, err := s.get(ctx, s.db.read, key)
	return r, s.db.fault(ctx, "read "+s.collection, err)
}

func (s documentStore) get(ctx context.Context, q querier, key string) (document.Record, error) {
	r, err := scanDocument(q.QueryRowContext(ctx,
		`select `+documentColumns+` from documents where collection = $1 and key = $2`, s.collection, strings.ToLower(key)))
	return r, missing(err, key, "the entry in "+s.collection)
}

// Put implements document.Store.
func (s documentStore) Put(ctx context.Context, key string, body json.RawMessage, cond document.Condition) (document.Record, error) {
	if err := document.Check(key, body); err != nil {
		return document.Record{}, err
	}
	var stored document.Record
	err := s.db.tx(ctx, func(tx transaction) error {
		before, err := s.get(ctx, tx, key)
		if err := document.Allow(cond, before, err); err != nil {
			return err
		}
		stored, err = scanDocument(tx.QueryRowContext(ctx, `insert into documents (collection, key, name, body, etag, updated_at)
			values ($1, $2, $3, $4, $5, `+s.db.dialect.now+`)
			on conflict (collection, key) do update set body = $4, etag = $5, updated_at = `+s.db.dialect.now+`
			returning `+documentColumns,
			s.collection, strings.ToLower(key), key, string(body), uuid.NewString()))
		return err
	})
	if err != nil {
		return document.Record{}, s.db.fault(ctx, "write "+s.collection, err)
	}
	return stored, nil
}

// Delete implements document.Store.
func (s documentStore) Delete(ctx context.Context, key string, cond document.Condition) error {
	return s.db.fault(ctx, "delete from "+s.collection, s.db.tx(ctx, func(tx transaction) error {
		before, err := s.get(ctx, tx, key)
		if err := errors.Join(err, document.Allow(cond, before, err)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `delete from documents where collection = $1 and key = $2`, s.collection, strings.ToLower(key))
		return err
	}))
}

// List implements document.Store.
func (s documentStore) List(ctx context.Context, prefix string) ([]document.Record, error) {
	// A range with an upper bound would need the successor of any rune; prefixes
	// sort together, so walking from the first and stopping is enough.
	prefix = strings.ToLower(prefix)
	rows, err := s.db.read.QueryContext(ctx,
		`select `+documentColumns+` from documents where collection = $1 and key >= $2 order by key`, s.collection, prefix)
	if err != nil {
		return nil, s.db.fault(ctx, "list "+s.collection, err)
	}
	defer func() { _ = rows.Close() }()
	var all []document.Record
	for rows.Next() {
		r, err := scanDocument(rows)
		if err != nil {
			return nil, s.db.fault(ctx, "list "+s.collection, err)
		}
		if !strings.HasPrefix(strings.ToLower(r.Key), prefix) {
			break
		}
		all = append(all, r)
	}
	return all, s.db.fault(ctx, "list "+s.collection, rows.Err())
}

func scanDocument(row scanner) (document.Record, error) {
	var r document.Record
	var body string
	var updated int64
	err := row.Scan(&r.Key, &body, &r.ETag, &updated)
	r.Body, r.UpdatedAt = []byte(body), fromMillis(updated)
	return r, err
}
