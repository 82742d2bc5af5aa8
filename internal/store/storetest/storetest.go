// Package storetest holds the conformance suites of the record stores: one per
// interface, passed by every implementation.
package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/layer"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Database is what an implementation offers to the suites.
type Database interface {
	Resources() resource.Store
	Runs() run.Store
	Layers() layer.Index
	Documents(name string) document.Store
	// Elapse makes leases and uses of layers by older, as if the clock of the
	// database had moved on.
	Elapse(by time.Duration)
}

// Conformance runs every suite; open makes an empty database per test.
func Conformance(t *testing.T, open func(t *testing.T) Database) {
	t.Run("Resources", func(t *testing.T) { Resources(t, open) })
	t.Run("Runs", func(t *testing.T) { Runs(t, open) })
	t.Run("Layers", func(t *testing.T) { Layers(t, open) })
	t.Run("Documents", func(t *testing.T) { Documents(t, open) })
}

type test struct {
	name string
	run  func(t *testing.T, db Database)
}

func each(t *testing.T, open func(t *testing.T) Database, tests []test) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

// must is v, or the end of the test.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code arm.Code) {
	t.Helper()
	if got := arm.CodeOf(err); got != code {
		t.Fatalf("error has code %q, want %q: %v", got, code, err)
	}
}

func same[T any](t *testing.T, want, got T, opts ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}
