// Package armapitest runs the front door over stores in memory, for tests of
// providers.
package armapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

// The ids of the doors of tests.
const (
	Subscription = "11111111-1111-1111-1111-111111111111"
	Tenant       = "22222222-2222-2222-2222-222222222222"
	// S is the scope of the subscription.
	S = "/subscriptions/" + Subscription
	// Admin is the object id of the caller who may do all.
	Admin = "33333333-3333-3333-3333-333333333333"
)

// Door is a front door with an administrator in front of it. The bearer token is
// the caller's object id; Allow decides for all callers but Admin.
type Door struct {
	DB    *memory.DB
	API   *armapi.API
	Allow func(armapi.Access) bool // nil allows nothing
	t     testing.TB
}

// New opens a door for providers, which get its store from make.
func New(t testing.TB, make func(resource.Store) []armapi.Provider) *Door {
	return Over(t, memory.New(), make)
}

// Over is New on a database that exists already.
func Over(t testing.TB, db *memory.DB, make func(resource.Store) []armapi.Provider) *Door {
	t.Helper()
	d := &Door{DB: db, t: t}
	api, err := armapi.New(armapi.Config{
		Subscription: Subscription, Tenant: Tenant, Resources: db.Resources(), Documents: db.Documents,
		Authenticate: authenticate,
		Authorize: func(_ context.Context, a armapi.Access) (bool, error) {
			return a.Caller.ObjectID == Admin || (d.Allow != nil && d.Allow(a)), nil
		},
		Providers: make(db.Resources()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	d.API = api
	return d
}

func authenticate(_ context.Context, r *http.Request) (armapi.Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return armapi.Caller{}, errors.New("there is no bearer token")
	}
	return armapi.Caller{ObjectID: token, TenantID: Tenant, Name: "tester"}, nil
}

// Answer is an HTTP answer with its body read.
type Answer struct {
	Status int
	Header http.Header
	Text   string
}

// Do sends a request as Admin. Without an api-version in path it is
// 2024-01-01. headers are names and values in turn.
func (d *Door) Do(method, path, body string, headers ...string) Answer {
	d.t.Helper()
	return d.As(Admin, method, path, body, headers...)
}

// As is Do as another caller; "" sends no token.
func (d *Door) As(caller, method, path, body string, headers ...string) Answer {
	d.t.Helper()
	if !strings.Contains(path, "api-version=") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=2024-01-01"
	}
	r := httptest.NewRequest(method, "https://door.test"+strings.ReplaceAll(path, " ", "%20"), bytes.NewReader([]byte(body)))
	if caller != "" {
		r.Header.Set("Authorization", "Bearer "+caller)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.API.ServeHTTP(w, r)
	res := w.Result()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Text: string(text)}
}

// Want is Do that must answer with status.
func (d *Door) Want(status int, method, path, body string, headers ...string) Answer {
	d.t.Helper()
	a := d.Do(method, path, body, headers...)
	if a.Status != status {
		d.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.Status, status, a.Text)
	}
	return a
}

// Follow polls the Azure-AsyncOperation or Location of an accepted answer until
// it is final.
func (d *Door) Follow(a Answer) Answer {
	d.t.Helper()
	for _, name := range []string{"Azure-AsyncOperation", "Location"} {
		link := a.Header.Get(name)
		if link == "" {
			continue
		}
		path := strings.TrimPrefix(link, "https://door.test")
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
			got := d.Do("GET", path, "")
			if got.Status != http.StatusAccepted && got.Field("status") != armapi.InProgress && got.Field("status") != "Running" {
				return got
			}
		}
	}
	d.t.Fatalf("the answer %d names no operation that ends: %v %s", a.Status, a.Header, a.Text)
	return Answer{}
}

// Field is the text of a member of the body, by path "properties.a"; "" when it
// is not there. What is no string is JSON.
func (a Answer) Field(path string) string {
	var v any
	if json.Unmarshal([]byte(a.Text), &v) != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			if len(name) != 1 || int(name[0]-'0') >= len(in) {
				return ""
			}
			v = in[name[0]-'0']
		default:
			return ""
		}
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

// Code is the code of an error in its envelope.
func (a Answer) Code() string { return a.Field("error.code") }
