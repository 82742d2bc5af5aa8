// Package layer describes sealed, read-only layers of a build's disk and
// memory: what one is, and the Index that keeps them. It performs no I/O.
package layer

import (
	"context"
	"encoding/json"
	"time"
)

// Kind says what a layer holds.
type Kind string

// The kinds of layers. A memory layer stands beside a disk layer of the same
// key and lets work continue without a boot.
const (
	Disk   Kind = "disk"
	Memory Kind = "memory"
)

// Record is one committed layer. Layers are immutable: only LastUsedAt moves.
type Record struct {
	ID         string          // lower-case GUID; names the layer's files
	Key        string          // digest of everything that made it; "" for a layer that is never looked up (a debugging state, a damaged one)
	Kind       Kind            // what it holds
	Parent     string          // ID of the layer below, "" for the first one
	Base       string          // digest of the base image at the bottom of the chain
	Run        string          // run that made it
	Bytes      int64           // what its files occupy
	Manifest   json.RawMessage // changed chunks, file names and digests; the owner's business
	CreatedAt  time.Time       // set by Insert
	LastUsedAt time.Time       // set by Insert and Touch
}

// Filter selects layers of a List. The zero value selects all.
type Filter struct {
	Kind         Kind      // "" for all
	Base         string    // "" for all
	Run          string    // "" for all
	UnusedSince  time.Time // last used before this; zero for any time
	Collectables bool      // only what Delete would accept now: no layer above, no pin
}

// Index keeps layer records. Every method may be called concurrently and by
// several processes.
type Index interface {
	// Insert commits a layer. The first writer of a (Kind, Key) wins: the loser
	// gets the winner's record and won false, and must drop its own files.
	// CodeNotFound when Parent is not there, CodeConflict when the ID is taken.
	Insert(ctx context.Context, r Record) (stored Record, won bool, err error)
	// ByKey returns the layer of kind with key; CodeNotFound.
	ByKey(ctx context.Context, kind Kind, key string) (Record, error)
	// Get returns the layer with id; CodeNotFound.
	Get(ctx context.Context, id string) (Record, error)
	// Touch sets LastUsedAt to now; CodeNotFound.
	Touch(ctx context.Context, id string) error
	// Forget takes a layer's key away: ByKey finds it no longer and another may be
	// made in its place, while what stands on it stays. CodeNotFound.
	Forget(ctx context.Context, id string) error
	// List returns layers, the longest unused first.
	List(ctx context.Context, f Filter) ([]Record, error)
	// Delete forgets a layer that has no layer above it and no pin; CodeNotFound,
	// or CodeConflict naming what holds it. Its files are removed after that.
	Delete(ctx context.Context, id string) error
	// Pin keeps a layer from being deleted for as long as the run needs it.
	// Pinning twice is pinning once. CodeNotFound when the layer is gone.
	Pin(ctx context.Context, runID, layerID string) error
	// Unpin takes one pin of the run back, with layerID "" all of them. A pin that
	// is not there is no error.
	Unpin(ctx context.Context, runID, layerID string) error
	// PinsOf lists the IDs of the layers that the run has pinned, in order.
	PinsOf(ctx context.Context, runID string) ([]string, error)
}
