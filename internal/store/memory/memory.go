// Package memory keeps records in memory, with the behaviour of a database: it
// passes the same conformance suites. It serves tests; nothing outlives it.
package memory

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"goldsmith/internal/document"
	"goldsmith/internal/layer"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// DB is a set of stores. The zero value is not usable; New makes one.
type DB struct {
	mu        sync.Mutex
	resources map[string]resource.Record // by resource.Key
	runs      map[string]*runRow         // by id
	layers    map[string]layer.Record    // by id
	pins      map[pin]bool
	documents map[documentKey]document.Record
	serial    int64
}

type pin struct{ run, layer string }

type documentKey struct{ collection, key string }

// New is an empty database.
func New() *DB {
	return &DB{
		resources: map[string]resource.Record{},
		runs:      map[string]*runRow{},
		layers:    map[string]layer.Record{},
		pins:      map[pin]bool{},
		documents: map[documentKey]document.Record{},
	}
}

// Resources is the store of resource records.
func (d *DB) Resources() resource.Store { return resourceStore{d} }

// Runs is the store of runs.
func (d *DB) Runs() run.Store { return runStore{d} }

// Layers is the index of layers.
func (d *DB) Layers() layer.Index { return layerIndex{d} }

// Documents is the collection called name.
func (d *DB) Documents(name string) document.Store { return documentStore{d, name} }

// Elapse makes every lease and every use of a layer d older, as if the clock
// had moved on.
func (d *DB) Elapse(by time.Duration) {
	defer d.lock()()
	for _, r := range d.runs {
		if !r.LeaseExpires.IsZero() {
			r.LeaseExpires = r.LeaseExpires.Add(-by)
		}
	}
	for id, l := range d.layers {
		l.LastUsedAt = l.LastUsedAt.Add(-by)
		d.layers[id] = l
	}
}

func (d *DB) lock() (unlock func()) {
	d.mu.Lock()
	return d.mu.Unlock
}

// next is a number that was not used before. The lock is held.
func (d *DB) next() int64 {
	d.serial++
	return d.serial
}

// now has the resolution of a database's clock.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// sorted are the values of m that keep accepts, in the order of less.
func sorted[K comparable, V any](m map[K]V, keep func(V) bool, order func(a, b V) int) []V {
	var all []V
	for _, v := range m {
		if keep(v) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, order)
	return all
}

// by orders values by one of their fields.
func by[V any, F cmp.Ordered](field func(V) F) func(a, b V) int {
	return func(a, b V) int { return cmp.Compare(field(a), field(b)) }
}
