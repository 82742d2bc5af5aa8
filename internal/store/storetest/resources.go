package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

const subscription = "/subscriptions/11111111-1111-1111-1111-111111111111"

// Resources is the suite of resource.Store.
func Resources(t *testing.T, open func(t *testing.T) Database) {
	each(t, open, []test{
		{"PutGet", resourcePutGet}, {"Conditions", resourceConditions}, {"Casing", resourceCasing},
		{"Within", resourceWithin}, {"Refused", resourceRefused}, {"Update", resourceUpdate}, {"ConcurrentUpdates", resourceConcurrentUpdates},
		{"DeleteCascades", resourceDelete}, {"ListScopes", resourceScopes}, {"ListFilters", resourceFilters},
		{"Paging", resourcePaging}, {"OneCreatorWins", resourceOneCreator}, {"Canceled", resourceCanceled},
	})
}

func image(name string) resource.Record {
	return resource.Record{
		ID:   subscription + "/resourceGroups/Images/providers/Microsoft.Compute/images/" + name,
		Type: "Microsoft.Compute/images", Name: name, Location: "westus2", Kind: "golden",
		Tags:       map[string]string{"Owner": "ops", "stage": ""},
		Identity:   json.RawMessage(`{"type":"None"}`),
		Properties: json.RawMessage(`{"a": 1.0, "ü":"\u0000"}`),
		Other:      json.RawMessage(`{"sku":{"name":"Standard"}}`),
		Internal:   json.RawMessage(`{"digest":"sha256:00"}`),
	}
}

func resourcePutGet(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	want := image("web")
	stored, created, err := s.Put(ctx, want, resource.Condition{})
	ok(t, err)
	if !created || stored.ETag == "" || stored.CreatedAt.IsZero() || !stored.CreatedAt.Equal(stored.UpdatedAt) {
		t.Fatalf("created %v, %+v", created, stored)
	}
	same(t, want, stored, cmpopts.IgnoreFields(resource.Record{}, "ETag", "CreatedAt", "UpdatedAt"))
	same(t, stored, must(s.Get(ctx, want.ID))(t))

	bare := resource.Record{ID: want.ID, Type: want.Type, Name: want.Name}
	replaced, created, err := s.Put(ctx, bare, resource.Condition{})
	ok(t, err)
	if created || replaced.ETag == stored.ETag || !replaced.CreatedAt.Equal(stored.CreatedAt) {
		t.Fatalf("created %v, %+v", created, replaced)
	}
	got := must(s.Get(ctx, want.ID))(t)
	if got.Tags == nil || got.Identity != nil || got.Properties != nil || got.Other != nil || got.Internal != nil || got.Location != "" {
		t.Fatalf("what the replacement lacks is still there: %+v", got)
	}
	_, err = s.Get(ctx, want.ID+"x")
	wantCode(t, err, arm.CodeNotFound)
}

func resourceWithin(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	group := resource.Record{ID: subscription + "/resourceGroups/images", Type: "Microsoft.Resources/resourceGroups", Name: "images"}
	in := resource.Condition{Within: group.ID}
	_, _, err := s.Put(ctx, image("web"), in)
	wantCode(t, err, arm.CodeNotFound)
	must2(s.Put(ctx, group, resource.Condition{}))(t)
	first := must2(s.Put(ctx, image("web"), in))(t)
	must2(s.Put(ctx, image("web"), resource.Condition{Within: group.ID, IfMatch: first.ETag}))(t)
	_, err = s.Delete(ctx, group.ID, resource.Condition{})
	ok(t, err)
	_, _, err = s.Put(ctx, image("web"), in)
	wantCode(t, err, arm.CodeNotFound)
	_, err = s.Get(ctx, image("web").ID)
	wantCode(t, err, arm.CodeNotFound)
}

func resourceConditions(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	r := image("web")
	_, _, err := s.Put(ctx, r, resource.Condition{IfMatch: "x"})
	wantCode(t, err, arm.CodePreconditionFailed)
	first, created, err := s.Put(ctx, r, resource.Condition{IfNoneMatch: true})
	ok(t, err)
	if !created {
		t.Fatal("not created")
	}
	_, _, err = s.Put(ctx, r, resource.Condition{IfNoneMatch: true})
	wantCode(t, err, arm.CodePreconditionFailed)
	second, created, err := s.Put(ctx, r, resource.Condition{IfMatch: first.ETag})
	ok(t, err)
	if created {
		t.Fatal("created twice")
	}
	_, _, err = s.Put(ctx, r, resource.Condition{IfMatch: first.ETag})
	wantCode(t, err, arm.CodePreconditionFailed)
	_, _, err = s.Put(ctx, r, resource.Condition{IfMatch: second.ETag, IfNoneMatch: true})
	wantCode(t, err, arm.CodePreconditionFailed)
	_, err = s.Delete(ctx, r.ID, resource.Condition{IfMatch: first.ETag})
	wantCode(t, err, arm.CodePreconditionFailed)
	_, err = s.Delete(ctx, r.ID, resource.Condition{IfMatch: second.ETag})
	ok(t, err)
	_, err = s.Delete(ctx, r.ID, resource.Condition{})
	wantCode(t, err, arm.CodeNotFound)
}

func resourceCasing(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	r := image("Web")
	must2(s.Put(ctx, r, resource.Condition{}))(t)
	shouted := r
	shouted.ID, shouted.Name = strings.ToUpper(r.ID), "WEB"
	stored, created, err := s.Put(ctx, shouted, resource.Condition{})
	ok(t, err)
	if created || stored.ID != r.ID || stored.Name != r.Name {
		t.Fatalf("created %v, id %q, name %q: the first casing is to be kept", created, stored.ID, stored.Name)
	}
	got := must(s.Get(ctx, strings.ToLower(r.ID)+"/"))(t)
	if got.ID != r.ID {
		t.Fatalf("id %q", got.ID)
	}
	removed := must(s.Delete(ctx, strings.ToUpper(r.ID), resource.Condition{}))(t)
	same(t, []string{r.ID}, removed)
}

func resourceRefused(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	for _, id := range []string{"", "/", "x/y", "/a\x00b"} {
		_, _, err := s.Put(ctx, resource.Record{ID: id}, resource.Condition{})
		wantCode(t, err, arm.CodeInvalidResourceID)
	}
	r := image("web")
	r.Tags = map[string]string{"A": "1", "a": "2"}
	_, _, err := s.Put(ctx, r, resource.Condition{})
	wantCode(t, err, arm.CodeValidationFailed)
	r = image("web")
	r.Properties = json.RawMessage(`{`)
	_, _, err = s.Put(ctx, r, resource.Condition{})
	wantCode(t, err, arm.CodeInvalidJSON)
}

func resourceUpdate(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	_, err := s.Update(ctx, image("web").ID, func(*resource.Record) error { return nil })
	wantCode(t, err, arm.CodeNotFound)
	before, _, err := s.Put(ctx, image("web"), resource.Condition{})
	ok(t, err)
	after, err := s.Update(ctx, before.ID, func(r *resource.Record) error {
		r.ID, r.Location = "/elsewhere", "eastus"
		r.Tags["new"] = "tag"
		return nil
	})
	ok(t, err)
	if after.ID != before.ID || after.Location != "eastus" || after.Tags["new"] != "tag" || after.ETag == before.ETag {
		t.Fatalf("%+v", after)
	}
	boom := errors.New("boom")
	if _, err := s.Update(ctx, before.ID, func(*resource.Record) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("error of change: %v", err)
	}
	same(t, after, must(s.Get(ctx, before.ID))(t))
}

func resourceConcurrentUpdates(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	r := image("counter")
	r.Properties = json.RawMessage(`0`)
	must2(s.Put(ctx, r, resource.Condition{}))(t)
	const writers, rounds = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if _, err := s.Update(ctx, r.ID, increment); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := string(must(s.Get(ctx, r.ID))(t).Properties); got != fmt.Sprint(writers*rounds) {
		t.Fatalf("the counter is %s", got)
	}
}

func increment(r *resource.Record) error {
	var n int
	if err := json.Unmarshal(r.Properties, &n); err != nil {
		return err
	}
	r.Properties = json.RawMessage(fmt.Sprint(n + 1))
	return nil
}

// put stores bare records with these ids under the subscription.
func put(t *testing.T, s resource.Store, paths ...string) {
	t.Helper()
	for _, p := range paths {
		r := resource.Record{ID: subscription + p, Type: "T/none", Name: p[strings.LastIndex(p, "/")+1:]}
		if strings.Count(p, "/") == 2 {
			r.Type = "Microsoft.Resources/resourceGroups"
		}
		must2(s.Put(t.Context(), r, resource.Condition{}))(t)
	}
}

func list(t *testing.T, s resource.Store, q resource.Query) []string {
	t.Helper()
	records, next, err := s.List(t.Context(), q)
	ok(t, err)
	if q.PageSize == 0 && next != "" {
		t.Fatalf("a list of everything has a next page %q", next)
	}
	var paths []string
	for _, r := range records {
		paths = append(paths, strings.TrimPrefix(r.ID, subscription))
	}
	return paths
}

var tree = []string{
	"/resourceGroups/a", "/resourceGroups/A-b", "/resourceGroups/a/providers/N/t/x",
	"/resourceGroups/a/providers/N/t/x/sub/y", "/resourceGroups/a/providers/N/t/x-2", "/resourceGroups/a/providers/N/t/x0",
	"/resourceGroups/a0/providers/N/t/z", "/resourceGroups/b/providers/N/t/%_x",
}

func resourceDelete(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	put(t, s, tree...)
	removed := must(s.Delete(ctx, subscription+"/resourcegroups/A/providers/n/T/X", resource.Condition{}))(t)
	same(t, []string{subscription + tree[2], subscription + tree[3]}, removed)
	removed = must(s.Delete(ctx, subscription+"/resourceGroups/a", resource.Condition{}))(t)
	same(t, []string{subscription + tree[0], subscription + tree[4], subscription + tree[5]}, removed)
	same(t, []string{tree[1], tree[6], tree[7]}, list(t, s, resource.Query{}))
}

func resourceScopes(t *testing.T, db Database) {
	s := db.Resources()
	put(t, s, tree...)
	sorted := []string{tree[0], tree[1], tree[2], tree[4], tree[3], tree[5], tree[6], tree[7]}
	for _, tt := range []struct {
		scope string
		want  []string
	}{
		{"", sorted}, {"/", sorted}, {subscription, sorted}, {strings.ToUpper(subscription) + "/", sorted},
		{subscription + "/resourceGroups/A", []string{tree[2], tree[4], tree[3], tree[5]}},
		{subscription + tree[2], []string{tree[3]}},
		{subscription + "/resourceGroups/b", []string{tree[7]}},
		{subscription + "/resourceGroups/%", nil}, {subscription + "/resourceGroups/none", nil},
	} {
		same(t, tt.want, list(t, s, resource.Query{Scope: tt.scope}))
	}
}

func resourceFilters(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	put(t, s, tree...)
	web := image("web")
	must2(s.Put(ctx, web, resource.Condition{}))(t)
	db1 := image("db")
	db1.Tags = map[string]string{"OWNER": "dba"}
	must2(s.Put(ctx, db1, resource.Condition{}))(t)
	path := func(r resource.Record) string { return strings.TrimPrefix(r.ID, subscription) }

	for _, tt := range []struct {
		query resource.Query
		want  []string
	}{
		{resource.Query{Type: "microsoft.compute/IMAGES"}, []string{path(db1), path(web)}},
		{resource.Query{Type: "Microsoft.Compute"}, nil},
		{resource.Query{Scope: subscription, Type: "Microsoft.Resources/resourceGroups"}, []string{tree[0], tree[1]}},
		{resource.Query{Tag: "owner"}, []string{path(db1), path(web)}},
		{resource.Query{Tag: "owner", TagValue: "ops"}, []string{path(web)}},
		{resource.Query{Tag: "owner", TagValue: "OPS"}, nil},
		{resource.Query{Tag: "stage"}, []string{path(web)}},
		{resource.Query{Tag: "owner", Type: "T/none"}, nil},
		{resource.Query{Tag: "owner", Scope: subscription + "/resourceGroups/a"}, nil},
	} {
		same(t, tt.want, list(t, s, tt.query))
	}
	_, err := s.Update(ctx, web.ID, func(r *resource.Record) error { r.Tags = nil; return nil })
	ok(t, err)
	same(t, []string{path(db1)}, list(t, s, resource.Query{Tag: "owner"}))
	must(s.Delete(ctx, db1.ID, resource.Condition{}))(t)
	same(t, nil, list(t, s, resource.Query{Tag: "owner"}))
}

func resourcePaging(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	put(t, s, tree...)
	whole := list(t, s, resource.Query{Scope: subscription})
	for size := 1; size <= len(tree)+1; size++ {
		var paged []string
		q := resource.Query{Scope: subscription, PageSize: size}
		for {
			paged = append(paged, list(t, s, q)...)
			_, next, err := s.List(ctx, q)
			ok(t, err)
			if next == "" {
				break
			}
			q.PageToken = next
		}
		same(t, whole, paged)
	}
	// A token cannot lead out of its scope, and a forged one is refused.
	_, token, err := s.List(ctx, resource.Query{Scope: subscription, PageSize: 1})
	ok(t, err)
	same(t, []string{tree[7]}, list(t, s, resource.Query{Scope: subscription + "/resourceGroups/b", PageToken: token}))
	for _, forged := range []string{"!", "eA", token + "="} {
		_, _, err := s.List(ctx, resource.Query{PageToken: forged})
		wantCode(t, err, arm.CodeValidationFailed)
	}
}

func resourceOneCreator(t *testing.T, db Database) {
	s, ctx := db.Resources(), t.Context()
	const racers = 6
	wins := make(chan bool, racers)
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			_, created, err := s.Put(ctx, image("web"), resource.Condition{IfNoneMatch: true})
			if err != nil && !arm.IsCode(err, arm.CodePreconditionFailed) {
				t.Error(err)
			}
			wins <- created
		})
	}
	wg.Wait()
	close(wins)
	n := 0
	for won := range wins {
		if won {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d creators", n)
	}
}

func resourceCanceled(t *testing.T, db Database) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := db.Resources().Put(ctx, image("web"), resource.Condition{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("write with a cancelled context: %v", err)
	}
}

// must2 is must for a Put.
func must2(r resource.Record, _ bool, err error) func(t *testing.T) resource.Record {
	return must(r, err)
}
