// Package resource holds Azure Resource Manager records: what a resource is
// here, how ids form a scope tree, and the Store that keeps them.
package resource

import (
	"context"
	"encoding/json"
	"time"
)

// Record is one resource. ID keeps the casing of its creation; look-ups and
// comparisons ignore case.
type Record struct {
	ID         string            // full resource id, unique regardless of case
	Type       string            // e.g. "Microsoft.Compute/images"
	Name       string            // last name segment
	Location   string            // region name, "" for groups' children that have none
	Kind       string            // resource kind where the type has one
	Tags       map[string]string // never nil after a read
	Identity   json.RawMessage   // the identity object, nil when absent
	Properties json.RawMessage   // the properties object as it is served
	Other      json.RawMessage   // an object of further top-level members (sku, zones, plan), nil when there are none
	Internal   json.RawMessage   // what only this program knows (digests, file names); never served
	ETag       string            // changes with every write
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Condition guards a write. The zero value writes always.
type Condition struct {
	IfMatch     string // write only if the stored ETag is this
	IfNoneMatch bool   // write only if nothing is stored
	Within      string // of a Put: write only if the record with this id is stored, in the same transaction
}

// Query selects records of a List.
type Query struct {
	Scope     string // records whose id lies under this id ("/subscriptions/..", a group, a resource); not the scope itself
	Type      string // only this resource type, any case; "" for all
	Tag       string // only records with this tag name
	TagValue  string // and, if not empty, this value
	PageSize  int    // 0 for all
	PageToken string // from the previous page
}

// Store keeps Records. Every method may be called concurrently and by several
// processes. Errors are arm.Error: CodeNotFound, CodePreconditionFailed.
type Store interface {
	// Get returns the record with id (any case).
	Get(ctx context.Context, id string) (Record, error)
	// Put creates or replaces a record under cond, sets ETag, CreatedAt (kept on
	// replace) and UpdatedAt, and returns it as stored. A missing cond.Within is
	// CodeNotFound with that id as target.
	Put(ctx context.Context, r Record, cond Condition) (stored Record, created bool, err error)
	// Update reads the record, applies change, and writes it back, retrying when
	// somebody else wrote in between. change must be repeatable.
	Update(ctx context.Context, id string, change func(*Record) error) (Record, error)
	// Delete removes the record and everything below it in the scope tree, in
	// one transaction, and reports the removed ids.
	Delete(ctx context.Context, id string, cond Condition) (removed []string, err error)
	// List returns records ordered by lower-case id, and the next page's token
	// ("" at the end).
	List(ctx context.Context, q Query) (records []Record, next string, err error)
}
