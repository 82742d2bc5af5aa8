package store_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
	"goldsmith/internal/store/memory"
)

var (
	modelIDs = rapid.SampledFrom([]string{
		"/s", "/S/g", "/s/g/a", "/s/G/A/x", "/s/g/a-b", "/s/g/a0", "/s/g0/a", "/s/h", "/s/h/%", "/s/h/_",
	})
	modelTypes = rapid.SampledFrom([]string{"", "N/t", "n/T", "N/u"})
	modelTags  = rapid.MapOf(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"", "1", "2"}))
)

// TestResourcesMatchTheModel drives the database and the in-memory store with
// the same random operations and compares everything that can be seen.
func TestResourcesMatchTheModel(t *testing.T) {
	db := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := db.Writer().ExecContext(t.Context(), `delete from resources`); err != nil {
			rt.Fatal(err)
		}
		m := &model{t: t, real: db.Resources(), fake: memory.New().Resources(), etags: map[string]string{}}
		rt.Repeat(map[string]func(*rapid.T){"put": m.put, "update": m.update, "delete": m.delete, "get": m.get, "": m.list})
	})
}

type model struct {
	t          *testing.T
	real, fake resource.Store
	etags      map[string]string // of the real store, by the fake's
}

// condition draws one for both stores: sometimes of the current state.
func (m *model) condition(rt *rapid.T, id string) (forReal, forFake resource.Condition) {
	switch rapid.IntRange(0, 3).Draw(rt, "condition") {
	case 0:
		if r, err := m.fake.Get(m.t.Context(), id); err == nil {
			return resource.Condition{IfMatch: m.etags[r.ETag]}, resource.Condition{IfMatch: r.ETag}
		}
		fallthrough
	case 1:
		stale := resource.Condition{IfMatch: "stale"}
		return stale, stale
	case 2:
		none := resource.Condition{IfNoneMatch: true}
		return none, none
	}
	return resource.Condition{}, resource.Condition{}
}

func (m *model) put(rt *rapid.T) {
	r := resource.Record{
		ID: modelIDs.Draw(rt, "id"), Type: modelTypes.Draw(rt, "type"), Tags: modelTags.Draw(rt, "tags"),
		Name: rapid.StringN(0, 3, -1).Draw(rt, "name"), Location: rapid.String().Draw(rt, "location"),
		Properties: json.RawMessage(rapid.SampledFrom([]string{"{}", "null", ` [1]`}).Draw(rt, "properties")),
	}
	forReal, forFake := m.condition(rt, r.ID)
	real, realCreated, realErr := m.real.Put(m.t.Context(), r, forReal)
	fake, fakeCreated, fakeErr := m.fake.Put(m.t.Context(), r, forFake)
	m.same(rt, fake, real, fakeErr, realErr)
	if realCreated != fakeCreated {
		rt.Fatalf("created: %v and %v", realCreated, fakeCreated)
	}
	m.etags[fake.ETag] = real.ETag
}

func (m *model) update(rt *rapid.T) {
	id := modelIDs.Draw(rt, "id")
	change := func(r *resource.Record) error {
		r.Kind += "x"
		if len(r.Kind) > 3 {
			return fmt.Errorf("enough")
		}
		return nil
	}
	real, realErr := m.real.Update(m.t.Context(), id, change)
	fake, fakeErr := m.fake.Update(m.t.Context(), id, change)
	m.same(rt, fake, real, fakeErr, realErr)
	m.etags[fake.ETag] = real.ETag
}

func (m *model) delete(rt *rapid.T) {
	id := modelIDs.Draw(rt, "id")
	forReal, forFake := m.condition(rt, id)
	real, realErr := m.real.Delete(m.t.Context(), id, forReal)
	fake, fakeErr := m.fake.Delete(m.t.Context(), id, forFake)
	compare(rt, fake, real, fakeErr, realErr)
}

func (m *model) get(rt *rapid.T) {
	id := modelIDs.Draw(rt, "id")
	real, realErr := m.real.Get(m.t.Context(), id)
	fake, fakeErr := m.fake.Get(m.t.Context(), id)
	m.same(rt, fake, real, fakeErr, realErr)
}

func (m *model) list(rt *rapid.T) {
	q := resource.Query{
		Scope: rapid.SampledFrom([]string{"", "/s", "/s/g", "/S/G/a", "/s/h", "/none"}).Draw(rt, "scope"),
		Type:  modelTypes.Draw(rt, "of type"), PageSize: rapid.IntRange(0, 3).Draw(rt, "page size"),
		Tag: rapid.SampledFrom([]string{"", "A", "b"}).Draw(rt, "tag"), TagValue: rapid.SampledFrom([]string{"", "1"}).Draw(rt, "tag value"),
	}
	for {
		real, realNext, realErr := m.real.List(m.t.Context(), q)
		fake, fakeNext, fakeErr := m.fake.List(m.t.Context(), q)
		compare(rt, fake, real, fakeErr, realErr, ignored)
		if realNext != fakeNext {
			rt.Fatalf("next page: %q and %q", realNext, fakeNext)
		}
		if q.PageToken = realNext; realNext == "" {
			return
		}
	}
}

var ignored = cmpopts.IgnoreFields(resource.Record{}, "ETag", "CreatedAt", "UpdatedAt")

func (m *model) same(rt *rapid.T, fake, real resource.Record, fakeErr, realErr error) {
	compare(rt, fake, real, fakeErr, realErr, ignored)
	if etag, known := m.etags[fake.ETag]; known && fakeErr == nil && etag != real.ETag {
		rt.Fatalf("the etag is %q, want %q", real.ETag, etag)
	}
}

func compare[T any](rt *rapid.T, fake, real T, fakeErr, realErr error, opts ...cmp.Option) {
	if arm.CodeOf(fakeErr) != arm.CodeOf(realErr) {
		rt.Fatalf("errors: model %v, database %v", fakeErr, realErr)
	}
	if diff := cmp.Diff(fake, real, opts...); diff != "" {
		rt.Fatalf("(-model +database):\n%s", diff)
	}
}

func BenchmarkResources(b *testing.B) {
	db, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s := db.Resources()
	properties := json.RawMessage(fmt.Sprintf(`{"text":"%01500d"}`, 0))
	id := func(n int) string {
		return fmt.Sprintf("/subscriptions/s/resourceGroups/g%02d/providers/Microsoft.VirtualMachineImages/imageTemplates/t%05d", n%50, n)
	}
	const count = 50_000
	for n := range count {
		r := resource.Record{ID: id(n), Type: "Microsoft.VirtualMachineImages/imageTemplates", Properties: properties, Tags: map[string]string{"a": "b"}}
		if _, _, err := s.Put(b.Context(), r, resource.Condition{}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Get", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			if _, err := s.Get(b.Context(), id(n*7919%count)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("GetParallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for n := 0; pb.Next(); n++ {
				if _, err := s.Get(b.Context(), id(n*7919%count)); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("Put", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			r := resource.Record{ID: id(n * 7919 % count), Type: "Microsoft.VirtualMachineImages/imageTemplates", Properties: properties}
			if _, _, err := s.Put(b.Context(), r, resource.Condition{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, tt := range []struct {
		name string
		q    resource.Query
	}{
		{"ListGroupPage", resource.Query{Scope: "/subscriptions/s/resourceGroups/g25", PageSize: 50}},
		{"ListTypePage", resource.Query{Scope: "/subscriptions/s", Type: "Microsoft.VirtualMachineImages/imageTemplates", PageSize: 50}},
		{"ListTagPage", resource.Query{Scope: "/subscriptions/s/resourceGroups/g25", Tag: "a", PageSize: 50}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.List(b.Context(), tt.q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
