package catalog

import (
	"context"
	"sort"
	"sync"

	"goldsmith/internal/arm"
)

// Registry keeps the entries of one data directory: pulled, made and added
// images, each under its exact version. Implementations pass
// catalogtest.Conformance.
type Registry interface {
	// Put stores e, replacing the entry with the same URN in any case.
	Put(ctx context.Context, e Entry) error
	// Get returns the entry with u's exact version, in any case; CodeNotFound.
	Get(ctx context.Context, u URN) (Entry, error)
	// List returns all entries ordered by URN.Key.
	List(ctx context.Context) ([]Entry, error)
	// Delete forgets the entry; CodeNotFound when there is none.
	Delete(ctx context.Context, u URN) error
}

// Memory is a Registry that lasts as long as the process. The zero value is
// empty and ready to use.
type Memory struct {
	mu      sync.Mutex
	entries map[string]Entry
}

// Put stores e.
func (m *Memory) Put(ctx context.Context, e Entry) error {
	if err := ctx.Err(); err != nil {
		return arm.Errorf(arm.CodeCanceled, "storing the entry was cancelled: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = map[string]Entry{}
	}
	m.entries[e.Key()] = e
	return nil
}

// Get returns the entry named u.
func (m *Memory) Get(_ context.Context, u URN) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[u.Key()]
	if !ok {
		return Entry{}, unknown(u)
	}
	return e, nil
}

// List returns all entries.
func (m *Memory) List(context.Context) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Entry, 0, len(m.entries))
	for _, e := range m.entries {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key() < out[j].Key() })
	return out, nil
}

// Delete forgets the entry named u.
func (m *Memory) Delete(_ context.Context, u URN) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[u.Key()]; !ok {
		return unknown(u)
	}
	delete(m.entries, u.Key())
	return nil
}

func unknown(u URN) error {
	return arm.Errorf(arm.CodeNotFound, "platform image %s is not stored here", u)
}
