// Package document keeps small JSON documents by key, for the registries that
// need no table of their own (the image catalog is one). It performs no I/O.
package document

import (
	"context"
	"encoding/json"
	"time"
)

// Record is one document.
type Record struct {
	Key       string          // unique in its collection regardless of case; kept as first written
	Body      json.RawMessage // any JSON value
	ETag      string          // changes with every write
	UpdatedAt time.Time
}

// Condition guards a write. The zero value writes always.
type Condition struct {
	IfMatch     string // write only if the stored ETag is this
	IfNoneMatch bool   // write only if nothing is stored
}

// Store is one collection of documents. Every method may be called concurrently
// and by several processes. Errors are arm.Error: CodeNotFound,
// CodePreconditionFailed.
type Store interface {
	Get(ctx context.Context, key string) (Record, error)
	// Put creates or replaces the document under cond and returns it as stored.
	Put(ctx context.Context, key string, body json.RawMessage, cond Condition) (Record, error)
	Delete(ctx context.Context, key string, cond Condition) error
	// List returns all documents whose key starts with prefix (any case), ordered
	// by lower-case key.
	List(ctx context.Context, prefix string) ([]Record, error)
}
