package memory

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
)

type documentStore struct {
	db         *DB
	collection string
}

func (s documentStore) Get(ctx context.Context, key string) (document.Record, error) {
	defer s.db.lock()()
	return s.get(ctx, key)
}

func (s documentStore) get(ctx context.Context, key string) (document.Record, error) {
	r, ok := s.db.documents[s.key(key)]
	if !ok {
		return document.Record{}, arm.Errorf(arm.CodeNotFound, "the entry in %s does not exist", s.collection).At(key)
	}
	r.Body = slices.Clone(r.Body)
	return r, ctx.Err()
}

func (s documentStore) Put(ctx context.Context, key string, body json.RawMessage, cond document.Condition) (document.Record, error) {
	if err := document.Check(key, body); err != nil {
		return document.Record{}, err
	}
	defer s.db.lock()()
	r, err := s.get(ctx, key)
	if err := document.Allow(cond, r, err); err != nil {
		return document.Record{}, err
	}
	if r.Key == "" {
		r.Key = key
	}
	r.Body, r.UpdatedAt = slices.Clone(body), now()
	r.ETag = "etag-" + strconv.FormatInt(s.db.next(), 10)
	s.db.documents[s.key(key)] = r
	return r, nil
}

func (s documentStore) Delete(ctx context.Context, key string, cond document.Condition) error {
	defer s.db.lock()()
	r, err := s.get(ctx, key)
	if err != nil {
		return err
	}
	if err := document.Allow(cond, r, nil); err != nil {
		return err
	}
	delete(s.db.documents, s.key(key))
	return nil
}

func (s documentStore) List(ctx context.Context, prefix string) ([]document.Record, error) {
	defer s.db.lock()()
	var keys []documentKey
	for k := range s.db.documents {
		if k.collection == s.collection && strings.HasPrefix(k.key, strings.ToLower(prefix)) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, by(func(k documentKey) string { return k.key }))
	var all []document.Record
	for _, k := range keys {
		all = append(all, s.db.documents[k])
	}
	return all, ctx.Err()
}

func (s documentStore) key(key string) documentKey {
	return documentKey{s.collection, strings.ToLower(key)}
}
