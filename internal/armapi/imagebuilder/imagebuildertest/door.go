// Package imagebuildertest runs the image builder's API over a laboratory of
// builds without virtual machines, behind a TLS server.
package imagebuildertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/deployments"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/network"
	"goldsmith/internal/armapi/upkeep"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// Ids of the door.
const (
	Tenant = "22222222-2222-2222-2222-222222222222"
	// Admin is the bearer token and object id of the caller who may do all.
	Admin = "33333333-3333-3333-3333-333333333333"
)

// Door is a server with a laboratory behind it.
type Door struct {
	*buildtest.Lab
	API    *armapi.API
	Server *httptest.Server
	// Allow decides for all callers but Admin; nil allows nothing.
	Allow func(armapi.Access) bool
}

// New opens a door on a new laboratory. The provider and its preview are
// registered, and the lab's group and identity are there. Nothing works builds
// until Serve.
func New(t testing.TB, options ...buildtest.Option) *Door {
	t.Helper()
	d := Over(buildtest.New(t, options...))
	d.PutGroup()
	d.PutIdentity("builder")
	if err := d.API.SetRegistered(t.Context(), imagebuilder.Namespace, true); err != nil {
		t.Fatal(err)
	}
	d.Put(resource.Record{
		ID:   "/subscriptions/" + d.Engine.Subscription() + "/providers/Microsoft.Features/providers/" + imagebuilder.Namespace + "/features/VirtualMachineTemplatePreview",
		Type: "Microsoft.Features/providers/features", Name: "VirtualMachineTemplatePreview", Properties: []byte(`{"state":"Registered"}`),
	})
	return d
}

// Over opens a door on a laboratory as it is.
func Over(l *buildtest.Lab) *Door {
	l.Helper()
	d := &Door{Lab: l}
	api, err := armapi.New(armapi.Config{
		Subscription: l.Engine.Subscription(), Tenant: Tenant, Resources: l.Engine.Resources(), Documents: l.Engine.Documents,
		Authenticate: authenticate,
		Authorize: func(_ context.Context, a armapi.Access) (bool, error) {
			return a.Caller.ObjectID == Admin || d.Allow != nil && d.Allow(a), nil
		},
		Providers: append(imagebuilder.Providers(l.Engine), upkeep.Provider(l.Engine, filepath.Join(l.Data, "downloads")),
			network.Provider(l.Engine.Resources(), l.Engine),
			deployments.Provider(deployments.Config{
				Subscription: l.Engine.Subscription(), Tenant: Tenant, Store: l.Engine.Resources(),
				Call: func(ctx context.Context, c armapi.Call) (armapi.Answer, error) { return d.API.Call(ctx, c) },
			})),
	})
	if err != nil {
		l.Fatal(err)
	}
	d.API = api
	d.Server = httptest.NewTLSServer(api)
	l.Cleanup(func() {
		d.Server.Close()
		api.Close()
	})
	return d
}

func authenticate(_ context.Context, r *http.Request) (armapi.Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return armapi.Caller{}, errors.New("there is no bearer token")
	}
	return armapi.Caller{ObjectID: token, TenantID: Tenant, Name: "tester"}, nil
}

// Put stores a record.
func (d *Door) Put(rec resource.Record) {
	d.Helper()
	if _, _, err := d.Engine.Resources().Put(d.Context(), rec, resource.Condition{}); err != nil {
		d.Fatal(err)
	}
}

// principal is the object id of every identity of the door.
const principal = "44444444-4444-4444-4444-444444444444"

// PutIdentity makes a user-assigned identity in the lab's group, which may do
// everything.
func (d *Door) PutIdentity(name string) (id string) {
	d.Helper()
	id = d.ID("Microsoft.ManagedIdentity/userAssignedIdentities/" + name)
	d.Put(resource.Record{
		ID: id, Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Name: name, Location: buildtest.Location,
		Properties: []byte(`{"tenantId":"` + Tenant + `","principalId":"` + principal + `","clientId":"55555555-5555-5555-5555-555555555555"}`),
	})
	d.Assign(principal, rbac.Owner, "/subscriptions/"+d.Engine.Subscription())
	return id
}

// PutNamedGroup makes another resource group.
func (d *Door) PutNamedGroup(name, location string) {
	d.Helper()
	d.Put(resource.Record{
		ID: arm.GroupID(d.Engine.Subscription(), name), Type: "Microsoft.Resources/resourceGroups", Name: name, Location: location,
		Properties: []byte(`{"provisioningState":"Succeeded"}`),
	})
}

// Template is the address of a template of the lab, for an API version.
func (d *Door) Template(name, version string) string {
	return d.ID("Microsoft.VirtualMachineImages/imageTemplates/"+name) + "?api-version=" + version
}

// Answer is an HTTP answer with its body read.
type Answer struct {
	Status int
	Header http.Header
	Text   string
}

// Do sends a request as Admin. body is JSON text, or a value to encode; headers
// are names and values in turn.
func (d *Door) Do(method, path string, body any, headers ...string) Answer {
	d.Helper()
	return d.As(Admin, method, path, body, headers...)
}

// As is Do as another caller; "" sends no token.
func (d *Door) As(caller, method, path string, body any, headers ...string) Answer {
	d.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			d.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	if !strings.HasPrefix(path, "https://") {
		path = d.Server.URL + path
	}
	r, err := http.NewRequestWithContext(d.Context(), method, path, in)
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if caller != "" {
		r.Header.Set("Authorization", "Bearer "+caller)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := d.Server.Client().Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.Fatal(err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Text: string(text)}
}

// Want is Do that must answer with status.
func (d *Door) Want(status int, method, path string, body any, headers ...string) Answer {
	d.Helper()
	a := d.Do(method, path, body, headers...)
	if a.Status != status {
		d.Fatalf("%s %s: status %d, want %d: %s", method, path, a.Status, status, a.Text)
	}
	return a
}

// Follow polls the Azure-AsyncOperation of an accepted answer until it is final.
func (d *Door) Follow(a Answer) Answer {
	d.Helper()
	link := a.Header.Get("Azure-AsyncOperation")
	if link == "" {
		d.Fatalf("the answer %d names no operation: %v %s", a.Status, a.Header, a.Text)
	}
	var got Answer
	d.Until("the operation ends", func() bool {
		got = d.Want(http.StatusOK, "GET", link, nil)
		return got.Field("status") != armapi.InProgress
	})
	return got
}

// Decode reads the answer's body into v.
func (d *Door) Decode(a Answer, v any) {
	d.Helper()
	if err := json.Unmarshal([]byte(a.Text), v); err != nil {
		d.Fatalf("%v: %s", err, a.Text)
	}
}

// Field is the text of a member of the body, by path "properties.a"; "" when it
// is not there. What is no string is JSON.
func (a Answer) Field(path string) string {
	var v any
	if json.Unmarshal([]byte(a.Text), &v) != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		in, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = in[name]
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
