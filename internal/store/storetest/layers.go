package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"goldsmith/internal/arm"
	"goldsmith/internal/layer"
)

// Layers is the suite of layer.Index.
func Layers(t *testing.T, open func(t *testing.T) Database) {
	each(t, open, []test{
		{"Insert", layerInsert}, {"FirstWriterWins", layerFirstWriter}, {"List", layerList},
		{"Forget", layerForget},
		{"DeleteAndPins", layerDelete}, {"PinRacesDelete", layerPinRace},
	})
}

func newLayer(id, key, parent string) layer.Record {
	return layer.Record{
		ID: id, Key: key, Kind: layer.Disk, Parent: parent, Base: "sha256:base", Run: runID(1),
		Bytes: 1 << 40, Manifest: json.RawMessage(`{"chunks": []}`),
	}
}

func must2Layer(r layer.Record, _ bool, err error) func(t *testing.T) layer.Record {
	return must(r, err)
}

func layerInsert(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	want := newLayer("l1", "k1", "")
	stored, won, err := s.Insert(ctx, want)
	ok(t, err)
	if !won || stored.CreatedAt.IsZero() || !stored.CreatedAt.Equal(stored.LastUsedAt) {
		t.Fatalf("won %v: %+v", won, stored)
	}
	same(t, want, stored, cmpopts.IgnoreFields(layer.Record{}, "CreatedAt", "LastUsedAt"))
	same(t, stored, must(s.Get(ctx, "l1"))(t))
	same(t, stored, must(s.ByKey(ctx, layer.Disk, "k1"))(t))

	other, won, err := s.Insert(ctx, newLayer("l2", "k1", ""))
	ok(t, err)
	if won {
		t.Fatal("a second layer has the same key")
	}
	same(t, stored, other)
	_, err = s.Get(ctx, "l2")
	wantCode(t, err, arm.CodeNotFound)
	_, err = s.ByKey(ctx, layer.Memory, "k1")
	wantCode(t, err, arm.CodeNotFound)
	_, err = s.ByKey(ctx, layer.Disk, "")
	wantCode(t, err, arm.CodeNotFound)

	memory := newLayer("m1", "k1", "l1")
	memory.Kind = layer.Memory
	if _, won, err := s.Insert(ctx, memory); err != nil || !won {
		t.Fatalf("a memory layer beside the disk layer: won %v, %v", won, err)
	}
	for _, id := range []string{"d1", "d2"} {
		if _, won, err := s.Insert(ctx, newLayer(id, "", "l1")); err != nil || !won {
			t.Fatalf("a layer without key: won %v, %v", won, err)
		}
	}
	_, _, err = s.Insert(ctx, newLayer("l3", "k3", "gone"))
	wantCode(t, err, arm.CodeNotFound)
	_, _, err = s.Insert(ctx, newLayer("l1", "k9", ""))
	wantCode(t, err, arm.CodeConflict)
	_, _, err = s.Insert(ctx, newLayer("../x", "k9", ""))
	wantCode(t, err, arm.CodeInternal)
	wantCode(t, s.Touch(ctx, "gone"), arm.CodeNotFound)
}

func layerForget(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	for _, r := range []layer.Record{newLayer("l1", "k1", ""), newLayer("l2", "k2", "l1")} {
		_, won, err := s.Insert(ctx, r)
		if ok(t, err); !won {
			t.Fatalf("%s is there", r.ID)
		}
	}
	ok(t, s.Forget(ctx, "l1"))
	ok(t, s.Forget(ctx, "l1")) // twice is once
	_, err := s.ByKey(ctx, layer.Disk, "k1")
	wantCode(t, err, arm.CodeNotFound)
	if r := must(s.Get(ctx, "l1"))(t); r.Key != "" {
		t.Errorf("the forgotten layer has key %q", r.Key)
	}
	if r := must(s.ByKey(ctx, layer.Disk, "k2"))(t); r.Parent != "l1" {
		t.Errorf("the layer above stands on %q", r.Parent)
	}
	if _, won, err := s.Insert(ctx, newLayer("l3", "k1", "")); err != nil || !won {
		t.Errorf("another layer of the key: won %v, %v", won, err)
	}
	ok(t, s.Forget(ctx, "l3")) // any number of one kind may be without a key
	wantCode(t, s.Forget(ctx, "gone"), arm.CodeNotFound)
}

func layerFirstWriter(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	const racers = 6
	var wg sync.WaitGroup
	ids := make(chan string, racers)
	won := make(chan string, racers)
	for n := range racers {
		wg.Go(func() {
			r, first, err := s.Insert(ctx, newLayer(fmt.Sprint("l", n), "k", ""))
			if err != nil {
				t.Error(err)
			}
			if first {
				won <- r.ID
			}
			ids <- r.ID
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d winners", len(won))
	}
	winner := <-won
	for range racers {
		if id := <-ids; id != winner {
			t.Errorf("a loser got %s, the winner is %s", id, winner)
		}
	}
}

func layerList(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	for _, l := range []layer.Record{newLayer("a", "ka", ""), newLayer("b", "kb", "a"), newLayer("c", "kc", "b")} {
		must2Layer(s.Insert(ctx, l))(t)
	}
	memory := newLayer("m", "kc", "b")
	memory.Kind, memory.Base, memory.Run = layer.Memory, "sha256:other", runID(2)
	must2Layer(s.Insert(ctx, memory))(t)
	ok(t, s.Pin(ctx, runID(5), "c"))
	db.Elapse(time.Hour)
	ok(t, s.Touch(ctx, "a"))
	ids := func(f layer.Filter) (got []string) {
		t.Helper()
		for _, l := range must(s.List(ctx, f))(t) {
			got = append(got, l.ID)
		}
		return got
	}
	same(t, []string{"b", "c", "m", "a"}, ids(layer.Filter{}))
	same(t, []string{"m"}, ids(layer.Filter{Kind: layer.Memory}))
	same(t, []string{"m"}, ids(layer.Filter{Base: "sha256:other"}))
	same(t, []string{"m"}, ids(layer.Filter{Run: runID(2)}))
	same(t, []string{"b", "c", "m"}, ids(layer.Filter{UnusedSince: time.Now().Add(-time.Minute)}))
	same(t, []string{"m"}, ids(layer.Filter{Collectables: true}))
	same(t, nil, ids(layer.Filter{Collectables: true, Kind: layer.Disk}))
}

func layerDelete(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	must2Layer(s.Insert(ctx, newLayer("a", "ka", "")))(t)
	must2Layer(s.Insert(ctx, newLayer("b", "kb", "a")))(t)
	for range 2 {
		ok(t, s.Pin(ctx, strings.ToUpper(runID(1)), "b"))
	}
	ok(t, s.Pin(ctx, runID(1), "a"))
	ok(t, s.Pin(ctx, runID(2), "b"))
	same(t, []string{"a", "b"}, must(s.PinsOf(ctx, runID(1)))(t))
	wantCode(t, s.Pin(ctx, runID(1), "gone"), arm.CodeNotFound)

	wantCode(t, s.Delete(ctx, "b"), arm.CodeConflict)
	ok(t, s.Unpin(ctx, runID(1), ""))
	ok(t, s.Unpin(ctx, runID(1), "b"))
	same(t, nil, must(s.PinsOf(ctx, runID(1)))(t))
	wantCode(t, s.Delete(ctx, "b"), arm.CodeConflict)
	ok(t, s.Unpin(ctx, runID(2), "b"))
	err := s.Delete(ctx, "a")
	wantCode(t, err, arm.CodeConflict)
	if !strings.Contains(err.Error(), "layer b") {
		t.Errorf("the error does not say what holds the layer: %v", err)
	}
	ok(t, s.Delete(ctx, "b"))
	ok(t, s.Delete(ctx, "a"))
	wantCode(t, s.Delete(ctx, "a"), arm.CodeNotFound)
}

// layerPinRace: a pin and a delete of one layer never both succeed.
func layerPinRace(t *testing.T, db Database) {
	s, ctx := db.Layers(), t.Context()
	for n := range 10 {
		id := fmt.Sprint("l", n)
		must2Layer(s.Insert(ctx, newLayer(id, id, "")))(t)
		var wg sync.WaitGroup
		var pinned, deleted error
		wg.Go(func() { pinned = s.Pin(ctx, runID(1), id) })
		wg.Go(func() { deleted = s.Delete(ctx, id) })
		wg.Wait()
		if (pinned == nil) == (deleted == nil) {
			t.Fatalf("pin: %v, delete: %v", pinned, deleted)
		}
	}
}
