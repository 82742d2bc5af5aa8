package authorization_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
	"goldsmith/internal/authorization"
	"goldsmith/internal/document"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	group        = "/subscriptions/" + subscription + "/resourceGroups/images"
	alice        = "aaaaaaaa-0000-0000-0000-000000000001"
	imageRead    = "Microsoft.Compute/images/read"
)

// process is one process on the data directory.
type process struct {
	t *testing.T
	*store.DB
	*authorization.Authorizer
}

func start(t *testing.T, path string) process {
	t.Helper()
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	p := process{t, db, authorization.Open(db)}
	t.Cleanup(func() {
		if err := p.Authorizer.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p process) put(id, typ string, properties any) {
	p.t.Helper()
	raw, err := json.Marshal(properties)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, _, err := p.Resources().Put(p.t.Context(), resource.Record{ID: id, Type: typ, Name: filepath.Base(id), Properties: raw}, resource.Condition{}); err != nil {
		p.t.Fatal(err)
	}
}

func (p process) remove(id string) {
	p.t.Helper()
	if _, err := p.Resources().Delete(p.t.Context(), id, resource.Condition{}); err != nil {
		p.t.Fatal(err)
	}
}

func (p process) assign(name, principal, role, scope string) string {
	id := scope + "/providers/" + rbac.TypeAssignment + "/" + name
	p.put(id, rbac.TypeAssignment, map[string]any{"roleDefinitionId": role, "principalId": principal})
	return id
}

func (p process) check(r authorization.Request) bool {
	p.t.Helper()
	d, err := p.Check(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	return d.Allowed
}

func (p process) list(q audit.Query) []audit.Record {
	p.t.Helper()
	if err := p.Flush(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	records, err := p.Audit().List(p.t.Context(), q)
	if err != nil {
		p.t.Fatal(err)
	}
	return records
}

func TestEveryProcessSeesAChangeAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "goldsmith.db")
	one, two := start(t, path), start(t, path)
	request := authorization.Request{Principal: alice, Action: imageRead, Scope: group + "/providers/Microsoft.Compute/images/x"}
	want := func(allowed bool) {
		t.Helper()
		for _, p := range []process{one, two} {
			if p.check(request) != allowed {
				t.Fatalf("allowed is %v", !allowed)
			}
		}
	}
	want(false)
	id := one.assign("a", alice, rbac.Reader, group)
	want(true)
	two.remove(id)
	want(false)

	role := "/subscriptions/" + subscription + "/providers/" + rbac.TypeRole + "/00000000-0000-0000-0000-000000000001"
	write := func(actions ...string) {
		two.put(role, rbac.TypeRole, map[string]any{"roleName": "mine", "permissions": []any{map[string]any{"actions": actions}}})
	}
	write("Microsoft.Compute/galleries/read")
	one.assign("b", alice, role, group)
	want(false)
	write("Microsoft.Compute/galleries/read", imageRead)
	want(true)
	one.remove(group + "/providers/" + rbac.TypeAssignment + "/b")
	want(false)

	// Who is in a group is part of it, whichever process says so.
	const team = "aaaaaaaa-0000-0000-0000-0000000000ff"
	one.assign("d", team, rbac.Reader, group)
	want(false)
	member := rbac.Membership{Member: alice, Group: team}.Key()
	if _, err := two.Documents(authorization.Memberships).Put(t.Context(), member, []byte(`{}`), document.Condition{}); err != nil {
		t.Fatal(err)
	}
	want(true)
	if err := one.Documents(authorization.Memberships).Delete(t.Context(), member, document.Condition{}); err != nil {
		t.Fatal(err)
	}
	want(false)

	// A group's end takes the assignments in it along.
	one.put(group, "Microsoft.Resources/resourceGroups", map[string]any{})
	one.assign("c", alice, rbac.Reader, group)
	want(true)
	two.remove(group)
	want(false)
}

func TestRegistrationGrantsStagingOnly(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "goldsmith.db"))
	staging := authorization.Request{
		Principal: rbac.BuilderObject, Action: "Microsoft.Resources/subscriptions/resourceGroups/write",
		Scope: "/subscriptions/" + subscription + "/resourceGroups/IT_g_t_12345678-abcd-ef01-2345-6789abcdef01",
	}
	elsewhere := staging
	elsewhere.Scope = group
	for _, state := range []string{"", "Registering", "Registered", "Unregistered"} {
		if state != "" {
			p.put(authorization.RegistrationID(subscription), authorization.TypeProvider, map[string]any{"registrationState": state})
		}
		want := state == "Registered"
		if got := p.check(staging); got != want {
			t.Errorf("%q: staging allowed %v", state, got)
		}
		if p.check(elsewhere) {
			t.Errorf("%q: another group is open", state)
		}
		if ok, err := authorization.Registered(t.Context(), p.Resources(), subscription, "2020-02-14"); err != nil || ok != want {
			t.Errorf("%q: registered %v, %v", state, ok, err)
		}
	}
}

func TestEveryDecisionIsKept(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "goldsmith.db"))
	const run = "0a1b2c3d-0000-0000-0000-000000000000"
	id := p.assign("a", alice, rbac.Reader, group)
	p.check(authorization.Request{Principal: alice, Action: imageRead, Scope: group, Run: run, Why: "read the source"})
	for range 3 {
		p.check(authorization.Request{Principal: alice, Action: "Microsoft.Compute/images/write", Scope: group, Run: run})
	}
	p.check(authorization.Request{Principal: "bob", Action: imageRead, Scope: group + "2", Data: true})
	all := p.list(audit.Query{})
	want := []audit.Record{
		{Seq: 1, Count: 1, Principal: alice, Action: imageRead, Scope: group, Allowed: true, Assignment: id, Role: "Reader", Run: run, Why: "read the source"},
		{Seq: 2, Count: 3, Principal: alice, Action: "Microsoft.Compute/images/write", Scope: group, Run: run},
		{Seq: 3, Count: 1, Principal: "bob", Action: imageRead, Scope: group + "2", Data: true},
	}
	times := cmpopts.IgnoreFields(audit.Record{}, "Time", "Last")
	if diff := cmp.Diff(want, all, times); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		query audit.Query
		want  []int64
	}{
		{audit.Query{Run: "0A1B2C3D"}, []int64{1, 2}},
		{audit.Query{Run: "0a1b2c3e"}, nil},
		{audit.Query{Principal: "BOB"}, []int64{3}},
		{audit.Query{Scope: group}, []int64{1, 2}},
		{audit.Query{Scope: "/subscriptions/" + subscription}, []int64{1, 2, 3}},
		{audit.Query{Denied: true}, []int64{2, 3}},
		{audit.Query{Denied: true, Limit: 1}, []int64{3}},
		{audit.Query{After: 2}, []int64{3}},
		{audit.Query{Since: time.Now().Add(time.Hour)}, nil},
		{audit.Query{Since: time.Now().Add(-time.Hour)}, []int64{1, 2, 3}},
	} {
		var got []int64
		for _, r := range p.list(tt.query) {
			got = append(got, r.Seq)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: %s", tt.query, diff)
		}
	}
	raw, err := json.Marshal(all[1])
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(raw, &line); err != nil {
		t.Fatal(err)
	}
	if line["decision"] != "deny" || line["count"] != 3.0 || line["run"] != run {
		t.Errorf("exported as %s", raw)
	}
}

func TestCloseWritesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "goldsmith.db")
	reader := start(t, path)
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	a := authorization.Open(db)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				if _, err := a.Check(t.Context(), authorization.Request{Principal: fmt.Sprint(i), Action: "a/read", Scope: fmt.Sprint("/s/", j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	if _, err := a.Check(t.Context(), authorization.Request{}); err == nil {
		t.Error("a closed authorizer decides")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(reader.list(audit.Query{})); n != 400 {
		t.Errorf("%d records, want 400", n)
	}
}

func TestDeniedSpeaksLikeTheService(t *testing.T) {
	err := authorization.Denied(authorization.Request{Principal: alice, Action: imageRead, Scope: group}, "builder")
	const want = "The client 'builder' with object id '" + alice + "' does not have authorization to perform action '" + imageRead + "' over scope '" + group + "' or the scope is invalid. If access was recently granted, please refresh your credentials."
	if e, ok := err.(*arm.Error); !ok || e.Code != rbac.CodeAuthorizationFailed || e.Message != want {
		t.Errorf("%v", err)
	}
}

// BenchmarkCheck is one decision with its freshness read and its audit.
func BenchmarkCheck(b *testing.B) {
	db, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "goldsmith.db"))
	if err != nil {
		b.Fatal(err)
	}
	a := authorization.Open(db)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := a.Check(b.Context(), authorization.Request{Principal: alice, Action: imageRead, Scope: fmt.Sprint(group, i%100)}); err != nil {
				b.Error(err)
			}
		}
	})
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}
