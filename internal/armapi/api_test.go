package armapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sub    = armapitest.S
	groupG = sub + "/resourceGroups/g"
	things = groupG + "/providers/Test.Frame/things"
)

// sample is a provider that says what it was asked.
func sample(store resource.Store) []armapi.Provider {
	echo := func(_ context.Context, r *armapi.Request) (armapi.Response, error) {
		return armapi.OK(map[string]any{
			"id": r.ID, "type": r.Type, "names": r.Names, "group": r.Group, "scope": r.Scope,
			"action": r.Action, "version": r.Version, "body": string(r.Body), "caller": r.Caller.ObjectID,
		}), nil
	}
	list := func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		size, token, err := r.Page()
		if err != nil {
			return armapi.Response{}, err
		}
		records, next, err := store.List(ctx, resource.Query{Scope: r.ID, Type: r.Type, PageSize: size, PageToken: token})
		if err != nil {
			return armapi.Response{}, err
		}
		var shown []json.RawMessage
		for _, rec := range records {
			if ok, err := armapi.Visible(ctx, rec); err != nil {
				return armapi.Response{}, err
			} else if !ok {
				continue
			}
			body, err := armapi.Resource(rec)
			if err != nil {
				return armapi.Response{}, err
			}
			shown = append(shown, body)
		}
		return armapi.ListOf(r, shown, next), nil
	}
	return []armapi.Provider{{
		Namespace: "Test.Frame",
		Types: []armapi.Type{
			{Name: "things", Versions: []string{"2020-01-01", "2024-01-01-preview", "2022-01-01"}, Tracked: true, Narrows: true,
				Get: echo, List: list, Put: echo, Patch: echo, Delete: echo,
				Actions: map[string]armapi.Action{"poke": {Handle: echo}, "begin": {Handle: func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
					op, err := r.Begin(ctx, "things/begin", r.ID, string(r.Body))
					return r.Accepted(http.StatusAccepted, nil, op, "West US 2", true), err
				}}}},
			{Name: "things/parts", Get: echo, List: echo},
			{Name: "notes", Place: armapi.OnAnything, Get: echo, List: echo},
			{Name: "loose", Lenient: true, Put: echo},
			{Name: "short", Pattern: "[a-z]{1,3}", Get: echo},
			{Name: "broken", Get: func(context.Context, *armapi.Request) (armapi.Response, error) { panic("lost") }},
			{Name: "wrong", Get: func(context.Context, *armapi.Request) (armapi.Response, error) {
				return armapi.Response{}, armapi.Status(http.StatusTeapot, arm.Errorf("Kettle", "the kettle is out").At("lid"))
			}},
		},
		Actions: map[string]armapi.Action{"askAll": {Handle: echo}},
		Works: map[string]armapi.Work{"things/begin": func(ctx context.Context, op armapi.Operation) error {
			switch string(op.Input) {
			case `"fail"`:
				return arm.Errorf(arm.CodeConflict, "it failed")
			case `"panic"`:
				panic("lost")
			case `"wait"`:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}},
	}, {
		Namespace: "Test.Old", MustRegister: true, Indent: " ", Bare: func(v string) bool { return v < "2021-01-01" },
		Types: []armapi.Type{{Name: "things", Get: echo, Put: echo}},
	}}
}

func TestRouting(t *testing.T) {
	d := armapitest.New(t, sample)
	for _, tc := range []struct {
		name, method, path string
		id, typ            string
	}{
		{"resource", "GET", things + "/a", things + "/a", "Test.Frame/things"},
		{"any case", "GET", strings.ToUpper(sub) + "/RESOURCEGROUPS/g/Providers/test.frame/THINGS/a", things + "/a", "Test.Frame/things"},
		{"double slashes", "GET", "/" + sub + "//resourceGroups/g/providers/Test.Frame//things/a/", things + "/a", "Test.Frame/things"},
		{"child", "GET", things + "/a/Parts/b", things + "/a/parts/b", "Test.Frame/things/parts"},
		{"children", "GET", things + "/a/parts", things + "/a", "Test.Frame/things/parts"},
		{"action", "POST", things + "/a/Poke", things + "/a", "Test.Frame/things"},
		{"action of the namespace", "POST", sub + "/providers/Test.Frame/askall", sub, ""},
		{"extension of the tenant", "GET", "/providers/Test.Frame/notes/n", "/providers/Test.Frame/notes/n", "Test.Frame/notes"},
		{"extensions of the tenant", "GET", "/providers/Test.Frame/notes", "/", "Test.Frame/notes"},
		{"extension of a subscription", "GET", sub + "/providers/Test.Frame/notes/n", sub + "/providers/Test.Frame/notes/n", "Test.Frame/notes"},
		{"extension of a resource", "GET", things + "/a/providers/Test.Frame/notes/n", things + "/a/providers/Test.Frame/notes/n", "Test.Frame/notes"},
		{"a group called providers", "GET", sub + "/resourceGroups/providers/providers/Test.Frame/things/a", sub + "/resourceGroups/providers/providers/Test.Frame/things/a", "Test.Frame/things"},
		{"blank in a name", "GET", things + "/a%20b", things + "/a b", "Test.Frame/things"},
		{"letters", "GET", things + "/%C3%BC", things + "/ü", "Test.Frame/things"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := d.Do(tc.method, tc.path, "")
			if a.Status != 200 || a.Field("id") != tc.id || a.Field("type") != tc.typ {
				t.Errorf("%d %s, want the id %s and the type %s", a.Status, a.Text, tc.id, tc.typ)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	d := armapitest.New(t, sample)
	long := strings.Repeat("a", 10_000)
	for _, tc := range []struct {
		name, method, path string
		status             int
		code               string
	}{
		{"no version", "GET", things + "/a?api-version=", 400, "MissingApiVersionParameter"},
		{"no date", "GET", things + "/a?api-version=v1", 400, "InvalidApiVersionParameter"},
		{"a date that is none", "GET", things + "/a?api-version=2024-02-31", 400, "InvalidApiVersionParameter"},
		{"more than preview", "GET", things + "/a?api-version=2024-02-01-previewer", 400, "InvalidApiVersionParameter"},
		{"other subscription", "GET", "/subscriptions/" + armapitest.Tenant + "/resourceGroups/g/providers/Test.Frame/things/a", 404, "SubscriptionNotFound"},
		{"unknown namespace", "GET", groupG + "/providers/Test.None/things/a", 404, "InvalidResourceNamespace"},
		{"unknown type", "GET", groupG + "/providers/Test.Frame/nothings/a", 404, "InvalidResourceType"},
		{"unknown child", "GET", things + "/a/nothings/b", 404, "InvalidResourceType"},
		{"unknown action", "POST", things + "/a/prod", 404, "InvalidResourceType"},
		{"POST of a resource", "POST", things + "/a", 405, "MethodNotAllowed"},
		{"PUT of a collection", "PUT", things, 405, "MethodNotAllowed"},
		{"PUT without a handler", "PUT", things + "/a/parts/b", 405, "MethodNotAllowed"},
		{"unknown method", "BREW", things + "/a", 405, "MethodNotAllowed"},
		{"outside of a group", "GET", sub + "/providers/Test.Frame/things/a", 404, "InvalidResourceType"},
		{"children of a subscription", "GET", sub + "/providers/Test.Frame/things/a/parts", 404, "InvalidResourceType"},
		{"a resource in a resource", "GET", things + "/a/providers/Test.Frame/things/b", 404, "InvalidResourceType"},
		{"no path of ARM", "GET", "/secrets/1", 400, "InvalidRequestUri"},
		{"the root", "GET", "/", 400, "InvalidRequestUri"},
		{"encoded slash", "GET", things + "/a%2Fb", 400, "InvalidRequestUri"},
		{"encoded backslash", "GET", things + "/a%5Cb", 400, "InvalidRequestUri"},
		{"encoded percent", "GET", things + "/a%252Fb", 400, "InvalidRequestUri"},
		{"encoded NUL", "GET", things + "/a%00", 400, "InvalidRequestUri"},
		{"line break", "GET", things + "/a%0D%0Ab", 400, "InvalidRequestUri"},
		{"no UTF-8", "GET", things + "/%ff", 400, "InvalidRequestUri"},
		{"dots", "GET", groupG + "/providers/Test.Frame/things/%2e%2e", 400, "InvalidRequestUri"},
		{"10,000 characters", "GET", things + "/" + long, 414, "RequestUriTooLong"},
		{"300 characters", "GET", things + "/" + long[:300], 400, "InvalidResourceName"},
		{"against the pattern", "GET", groupG + "/providers/Test.Frame/short/ABC", 400, "InvalidResourceName"},
		{"dot at the end", "GET", things + "/a.", 400, "InvalidResourceName"},
		{"operation that is not", "GET", sub + "/providers/Test.Frame/locations/westus2/operations/x", 404, "ResourceNotFound"},
		{"page size", "GET", things + "?$top=0", 400, "ValidationFailed"},
		{"page token", "GET", things + "?$skipToken=%25%25", 400, "ValidationFailed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := d.Do(tc.method, tc.path, "")
			if a.Status != tc.status || a.Code() != tc.code {
				t.Errorf("%d %s, want %d %s", a.Status, a.Text, tc.status, tc.code)
			}
			if a.Header.Get("x-ms-request-id") == "" || a.Header.Get("x-ms-error-code") != tc.code {
				t.Errorf("headers %v", a.Header)
			}
		})
	}
}

func TestAccess(t *testing.T) {
	d := armapitest.New(t, sample)
	a := d.As("", "GET", things+"/a", "")
	challenge := `Bearer authorization_uri="https://door.test/` + armapitest.Tenant + `", error="invalid_token"`
	if a.Status != 401 || a.Code() != "InvalidAuthenticationToken" || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), challenge) {
		t.Errorf("without a token: %d %v %s", a.Status, a.Header, a.Text)
	}
	var asked []armapi.Access
	d.Allow = func(q armapi.Access) bool { asked = append(asked, q); return false }
	for _, tc := range []struct{ method, path, action, scope string }{
		{"GET", things + "/a", "Test.Frame/things/read", things + "/a"},
		{"HEAD", things + "/a", "Test.Frame/things/read", things + "/a"},
		{"GET", things, "Test.Frame/things/read", groupG},
		{"PUT", things + "/a", "Test.Frame/things/write", things + "/a"},
		{"PATCH", things + "/a", "Test.Frame/things/write", things + "/a"},
		{"DELETE", things + "/a", "Test.Frame/things/delete", things + "/a"},
		{"POST", things + "/a/POKE", "Test.Frame/things/poke/action", things + "/a"},
		{"POST", sub + "/providers/Test.Frame/askAll", "Test.Frame/askAll/action", sub},
		{"POST", sub + "/providers/Test.Frame/register", "Test.Frame/register/action", sub},
		{"GET", things + "/a/parts/b", "Test.Frame/things/parts/read", things + "/a/parts/b"},
		{"GET", things + "/a/parts", "Test.Frame/things/parts/read", things + "/a"},
		{"GET", "/providers/Test.Frame/notes", "Test.Frame/notes/read", "/"},
	} {
		asked = nil
		a := d.As("nobody", tc.method, tc.path, "")
		want := []armapi.Access{{Caller: armapi.Caller{ObjectID: "nobody", TenantID: armapitest.Tenant, Name: "tester"}, Action: tc.action, Scope: tc.scope}}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("%s %s asked (-want +got):\n%s", tc.method, tc.path, diff)
		}
		if a.Status != 403 || (tc.method != "HEAD" && a.Code() != "AuthorizationFailed") {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.Status, a.Text)
		}
	}
}

func TestNarrowedList(t *testing.T) {
	d := armapitest.New(t, sample)
	put := func(group, name string) {
		t.Helper()
		id := sub + "/resourceGroups/" + group + "/providers/Test.Frame/things/" + name
		if _, _, err := d.DB.Resources().Put(t.Context(), resource.Record{ID: id, Type: "Test.Frame/things", Name: name}, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	put("mine", "a")
	put("mine", "b")
	put("yours", "c")
	put("yours", "d")
	d.Allow = func(q armapi.Access) bool {
		return q.Action == "Test.Frame/things/read" && (q.Scope == sub+"/resourceGroups/mine" || strings.HasSuffix(q.Scope, "/d"))
	}
	a := d.As("some", "GET", sub+"/providers/Test.Frame/things", "")
	if got := a.Field("value.0.name") + a.Field("value.1.name") + a.Field("value.2.name") + a.Field("value.3.name"); a.Status != 200 || got != "abd" {
		t.Errorf("%d, names %q, want what is mine", a.Status, got)
	}
	if a := d.As("some", "GET", sub+"/resourceGroups/yours/providers/Test.Frame/things", ""); a.Status != 403 {
		t.Errorf("a group that may not be listed: %d", a.Status)
	}
}

func TestPaging(t *testing.T) {
	d := armapitest.New(t, sample)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if _, _, err := d.DB.Resources().Put(t.Context(), resource.Record{ID: things + "/" + name, Type: "Test.Frame/things", Name: name}, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	path := things + "?$top=2"
	for pages := 0; path != ""; pages++ {
		a := d.Want(200, "GET", path, "")
		for _, i := range []string{"0", "1", "2"} {
			if n := a.Field("value." + i + ".name"); n != "" {
				names = append(names, n)
			}
		}
		path = strings.TrimPrefix(a.Field("nextLink"), "https://door.test")
		if pages > 5 {
			t.Fatal("the list has no end")
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, names); diff != "" {
		t.Error(diff)
	}
	if a := d.Want(200, "GET", sub+"/resourceGroups/empty/providers/Test.Frame/things", ""); a.Text != `{"value":[]}` {
		t.Errorf("an empty list is %s", a.Text)
	}
}

func TestAnswers(t *testing.T) {
	d := armapitest.New(t, sample)
	if a := d.Want(204, "HEAD", things+"/a", ""); a.Text != "" {
		t.Errorf("HEAD has a body: %s", a.Text)
	}
	a := d.Want(418, "GET", groupG+"/providers/Test.Frame/wrong/a", "")
	if diff := cmp.Diff(`{"error":{"code":"Kettle","message":"The kettle is out","target":"lid"}}`, a.Text); diff != "" {
		t.Error(diff)
	}
	a = d.Want(500, "GET", groupG+"/providers/Test.Frame/broken/a", "")
	if id := a.Header.Get("x-ms-request-id"); a.Code() != "InternalOperationError" || !strings.Contains(a.Text, id) {
		t.Errorf("a panic is answered with %s", a.Text)
	}
	a = d.Want(200, "PUT", groupG+"/providers/Test.Frame/loose/a", "{key: 'v', /* c */ \"t\": \"a\nb\",}")
	if got := a.Field("body"); got != `{"key": "v",  "t": "a\u000ab"}` {
		t.Errorf("the lenient body became %s", got)
	}
	h := d.Want(200, "GET", things+"/a", "", "x-ms-client-request-id", "mine", "x-ms-return-client-request-id", "true", "x-ms-correlation-request-id", armapitest.Tenant).Header
	if h.Get("x-ms-client-request-id") != "mine" || h.Get("x-ms-correlation-request-id") != armapitest.Tenant || h.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("headers %v", h)
	}
}

func TestBodyCap(t *testing.T) {
	d := armapitest.New(t, sample)
	d.Want(200, "PUT", things+"/a", strings.Repeat(" ", armapi.MaxBody))
	a := d.Want(413, "PUT", things+"/a", strings.Repeat(" ", armapi.MaxBody+1))
	if a.Code() != "RequestContentTooLarge" || a.Header.Get("Connection") != "close" {
		t.Errorf("%v %s", a.Header, a.Text)
	}
}

func TestOldEnvelopeAndRegistration(t *testing.T) {
	d := armapitest.New(t, sample)
	old := groupG + "/providers/Test.Old/things/a"
	a := d.Want(409, "PUT", old+"?api-version=2020-02-14", "{}")
	if a.Field("code") != "MissingSubscriptionRegistration" || !strings.Contains(a.Text, "{\n \"code\"") {
		t.Errorf("the old envelope is %s", a.Text)
	}
	if a := d.Want(409, "PUT", old, "{}"); a.Code() != "MissingSubscriptionRegistration" || a.Field("error.details.0.target") != "Test.Old" {
		t.Errorf("the new envelope is %s", a.Text)
	}
	d.Want(200, "GET", old, "")
	if a := d.Want(200, "GET", sub+"/providers/test.old", ""); a.Field("registrationState") != "NotRegistered" || a.Field("namespace") != "Test.Old" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "POST", sub+"/providers/test.old/register", ""); a.Field("registrationState") != "Registered" {
		t.Error(a.Text)
	}
	d.Want(200, "PUT", old, "{}")
	d.Want(200, "POST", sub+"/providers/Test.Old/unregister", "")
	d.Want(409, "PUT", old, "{}")
	a = d.Want(200, "GET", sub+"/providers/Test.Frame", "")
	if got := a.Field("resourceTypes.0.apiVersions"); got != `["2024-01-01-preview","2022-01-01","2020-01-01"]` {
		t.Errorf("versions %s", got)
	}
	d.Want(404, "GET", sub+"/providers/Test.None", "")
	if a := d.Want(200, "GET", sub+"/providers", ""); !strings.Contains(a.Text, `"Test.Frame"`) {
		t.Error(a.Text)
	}
}

func TestOperations(t *testing.T) {
	d := armapitest.New(t, sample)
	begin := func(d *armapitest.Door, input string) armapitest.Answer {
		t.Helper()
		a := d.Want(202, "POST", things+"/a/begin", input)
		if a.Header.Get("Retry-After") != "1" || a.Header.Get("Location") != a.Header.Get("Azure-AsyncOperation") || a.Text != "" {
			t.Fatalf("accepted with %v %s", a.Header, a.Text)
		}
		return a
	}
	if a := d.Follow(begin(d, "go")); a.Field("status") != "Succeeded" || a.Field("endTime") == "" || a.Header.Get("Retry-After") != "1" {
		t.Error(a.Text)
	}
	if a := d.Follow(begin(d, "fail")); a.Status != 200 || a.Field("status") != "Failed" || a.Code() != "Conflict" || a.Field("error.message") != "It failed" {
		t.Error(a.Text)
	}
	if a := d.Follow(begin(d, "panic")); a.Field("status") != "Failed" || a.Code() != "InternalOperationError" {
		t.Error(a.Text)
	}
	accepted := begin(d, "fail")
	d.Follow(accepted)
	link := strings.TrimPrefix(accepted.Header.Get("Location"), "https://door.test")
	id := link[strings.LastIndex(link, "/")+1 : strings.Index(link, "?")]
	if accepted.Header.Get("x-ms-request-id") != id || !strings.Contains(link, "/locations/westus2/") {
		t.Errorf("operation %s of request %s", link, accepted.Header.Get("x-ms-request-id"))
	}
	if a := d.Want(409, "GET", sub+"/operationresults/"+id, ""); a.Code() != "Conflict" {
		t.Error(a.Text)
	}
	// Unknown parameters of signed addresses are no matter; strangers see nothing.
	d.Want(200, "GET", link+"&t=1&c=2&s=3&h=4", "")
	if a := d.As("stranger", "GET", link, ""); a.Status != 404 {
		t.Errorf("a stranger polls: %d %s", a.Status, a.Text)
	}
	d.Allow = func(q armapi.Access) bool { return q.Action == "Test.Frame/things/read" && q.Scope == things+"/a" }
	if a := d.As("reader", "GET", link, ""); a.Status != 200 {
		t.Errorf("a reader of the resource polls: %d %s", a.Status, a.Text)
	}
}

func TestOperationSurvivesARestart(t *testing.T) {
	db := memory.New()
	first := armapitest.Over(t, db, sample)
	a := first.Want(202, "POST", things+"/a/begin", "wait")
	link := strings.TrimPrefix(a.Header.Get("Location"), "https://door.test")
	if got := first.Want(200, "GET", link, ""); got.Field("status") != "InProgress" || got.Field("endTime") != "" {
		t.Fatal(got.Text)
	}
	result := sub + "/operationresults/" + a.Header.Get("x-ms-request-id")
	if got := first.Want(202, "GET", result, ""); got.Header.Get("Retry-After") != "1" || got.Header.Get("Location") == "" {
		t.Fatal(got.Header)
	}
	first.API.Close()

	// The next process does the work differently: it ends.
	second := armapitest.Over(t, db, func(s resource.Store) []armapi.Provider {
		p := sample(s)
		p[0].Works["things/begin"] = func(context.Context, armapi.Operation) error { return nil }
		return p
	})
	if got := second.Want(200, "GET", link, ""); got.Field("status") != "InProgress" {
		t.Fatalf("before Resume: %s", got.Text)
	}
	if err := second.API.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := second.Follow(a); got.Field("status") != "Succeeded" {
		t.Fatal(got.Text)
	}
	if got := second.Want(200, "GET", result, ""); got.Text != "" {
		t.Fatal(got.Text)
	}
}
