package armapi_test

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

// Operations that wait for something take a bounded number of goroutines. One that
// somebody asks for does not wait for its turn, and those whose turn has not come
// are worked by the next process.
func TestOperationsThatWait(t *testing.T) {
	db := memory.New()
	const many = 200
	open := func(release chan struct{}, working *atomic.Int64) *armapitest.Door {
		return armapitest.Over(t, db, func(store resource.Store) []armapi.Provider {
			p := sample(store)
			p[0].Works["things/begin"] = func(ctx context.Context, op armapi.Operation) error {
				if string(op.Input) == `"quick"` {
					return nil
				}
				working.Add(1)
				select {
				case <-release:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return p
		})
	}
	var working atomic.Int64
	d := open(nil, &working)
	var last armapitest.Answer
	for range many {
		last = d.Want(http.StatusAccepted, "POST", things+"/a/begin", "wait")
	}
	quick := d.Want(http.StatusAccepted, "POST", things+"/a/begin", "quick")
	if got := d.Follow(quick); got.Field("status") != armapi.Succeeded {
		t.Errorf("what need not wait: %s", got.Text)
	}
	for working.Load() < 128 {
		runtime.Gosched()
	}
	if n := working.Load(); n != 128 {
		t.Errorf("%d are worked at once", n)
	}
	d.API.Close()

	release := make(chan struct{})
	close(release)
	again := open(release, &working)
	if err := again.API.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := again.Follow(last); got.Field("status") != armapi.Succeeded {
		t.Errorf("after a restart: %s", got.Text)
	}
	for {
		left, err := db.Documents("armapi.operations.pending").List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		runtime.Gosched()
	}
}
