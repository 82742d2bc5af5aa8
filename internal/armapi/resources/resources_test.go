package resources_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/armapi/identity"
	"goldsmith/internal/armapi/resources"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	s   = armapitest.S
	rg  = s + "/resourcegroups/g"
	ids = rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
)

func door(t testing.TB, change ...func(*resources.Config)) *armapitest.Door {
	return over(t, memory.New(), change...)
}

func over(t testing.TB, db *memory.DB, change ...func(*resources.Config)) *armapitest.Door {
	var d *armapitest.Door
	d = armapitest.Over(t, db, func(store resource.Store) []armapi.Provider {
		c := resources.Config{
			Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: store,
			Register: func(ctx context.Context, ns string) error { return d.API.SetRegistered(ctx, ns, true) },
		}
		for _, f := range change {
			f(&c)
		}
		return append(resources.Providers(c), identity.Provider(store, armapitest.Tenant),
			armapi.Provider{Namespace: "Microsoft.VirtualMachineImages", MustRegister: true})
	})
	return d
}

func TestGroups(t *testing.T) {
	d := door(t)
	d.Want(404, "GET", rg, "")
	d.Want(404, "HEAD", rg, "")
	a := d.Want(201, "PUT", rg, `{"location":"WestUS2"}`)
	want := `{"id":"` + s + `/resourceGroups/g","name":"g","type":"Microsoft.Resources/resourceGroups","location":"WestUS2","tags":{},"properties":{"provisioningState":"Succeeded"}}`
	if a.Text != want {
		t.Errorf("created\n%s, want\n%s", a.Text, want)
	}
	d.Want(204, "HEAD", rg, "")
	d.Want(200, "PUT", rg, `{"location":"West US 2","tags":{"a":"1"}}`)
	d.Want(200, "PATCH", rg, `{"tags":{"b":"2"}}`)
	if a := d.Want(200, "GET", strings.ToUpper(rg), ""); a.Field("tags") != `{"b":"2"}` || a.Field("name") != "g" || a.Field("location") != "WestUS2" {
		t.Error(a.Text)
	}
	if a := d.Want(409, "PUT", rg, `{"location":"eastus"}`); a.Code() != "InvalidResourceLocation" {
		t.Error(a.Text)
	}
	if a := d.Want(400, "PUT", s+"/resourcegroups/h", `{}`); a.Code() != "LocationRequired" {
		t.Error(a.Text)
	}
	d.Want(400, "PUT", s+"/resourcegroups/h.", `{"location":"westus2"}`)
	d.Want(404, "PATCH", s+"/resourcegroups/h", `{}`)
	d.Want(201, "PUT", s+"/resourcegroups/h", `{"location":"westus2"}`)
	for filter, want := range map[string]string{"": "gh", "tagName eq 'b' and tagValue eq '2'": "g", "name eq 'H'": "h"} {
		a := d.Want(200, "GET", s+"/resourcegroups?$filter="+strings.ReplaceAll(filter, " ", "%20"), "")
		if got := a.Field("value.0.name") + a.Field("value.1.name"); got != want {
			t.Errorf("%q lists %q, want %q", filter, got, want)
		}
	}
}

func TestConditions(t *testing.T) {
	d := door(t)
	d.Want(412, "PUT", rg, `{"location":"westus2"}`, "If-Match", "*")
	a := d.Want(201, "PUT", rg, `{"location":"westus2"}`, "If-None-Match", "*")
	d.Want(412, "PUT", rg, `{"location":"westus2"}`, "If-None-Match", "*")
	d.Want(200, "PUT", rg, `{"location":"westus2"}`, "If-Match", a.Header.Get("ETag"))
	if a := d.Want(412, "PUT", rg, `{"location":"westus2"}`, "If-Match", a.Header.Get("ETag")); a.Code() != "PreconditionFailed" {
		t.Error(a.Text)
	}
	d.Want(200, "PATCH", rg, `{}`, "If-Match", "*")
}

func TestIdentities(t *testing.T) {
	d := door(t)
	if a := d.Want(404, "PUT", ids+"abc", `{"location":"westus2"}`); a.Code() != "ResourceGroupNotFound" {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	first := d.Want(201, "PUT", ids+"abc", `{"location":"westus2","tags":{"a":"1"},"properties":{"clientId":"mine"}}`)
	again := d.Want(200, "PUT", ids+"abc", `{"location":"westus2"}`)
	for _, id := range []string{"principalId", "clientId", "tenantId"} {
		if v := first.Field("properties." + id); len(v) != 36 || again.Field("properties."+id) != v {
			t.Errorf("%s is %s and then %s", id, v, again.Field("properties."+id))
		}
	}
	if a := d.Want(200, "PATCH", ids+"abc", `{"tags":{"b":"2"}}`); a.Field("tags") != `{"b":"2"}` || a.Field("properties.clientId") != first.Field("properties.clientId") {
		t.Error(a.Text)
	}
	if a := d.Want(404, "GET", ids+"nope", ""); a.Code() != "ResourceNotFound" ||
		a.Field("error.message") != "The Resource 'Microsoft.ManagedIdentity/userAssignedIdentities/nope' under resource group 'g' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix" {
		t.Error(a.Text)
	}
	d.Want(200, "DELETE", ids+"abc", "")
	d.Want(204, "DELETE", ids+"abc", "")
	if a := d.Want(404, "DELETE", s+"/resourceGroups/none/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc", ""); a.Code() != "ResourceGroupNotFound" {
		t.Error(a.Text)
	}
	if a := d.Want(201, "PUT", ids+"abc", `{"location":"westus2"}`); a.Field("properties.clientId") == first.Field("properties.clientId") {
		t.Error("a new identity has the ids of a deleted one")
	}
}

func TestBadResources(t *testing.T) {
	d := door(t)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("t", i)] = ""
	}
	tags, _ := json.Marshal(map[string]any{"location": "westus2", "tags": many})
	for _, tc := range []struct{ name, body, code string }{
		{"empty", "", "InvalidRequestContent"},
		{"cut", `{"location":`, "InvalidRequestContent"},
		{"array", `[]`, "InvalidRequestContent"},
		{"unquoted", `{location:"westus2"}`, "InvalidRequestContent"},
		{"not UTF-8", "{\"location\":\"\xff\"}", "InvalidRequestContent"},
		{"location is a number", `{"location":1}`, "InvalidRequestContent"},
		{"tags are a list", `{"location":"westus2","tags":[]}`, "InvalidRequestContent"},
		{"tag is a number", `{"location":"westus2","tags":{"a":1}}`, "InvalidRequestContent"},
		{"properties are a text", `{"location":"westus2","properties":"x"}`, "InvalidRequestContent"},
		{"deep", `{"properties":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "InvalidRequestContent"},
		{"many tags", string(tags), "InvalidTag"},
		{"tag name", `{"location":"westus2","tags":{"a<b":""}}`, "InvalidTag"},
		{"tags of one name", `{"location":"westus2","tags":{"a":"","A":""}}`, "InvalidTag"},
		{"no location", `{}`, "LocationRequired"},
	} {
		if a := d.Want(400, "PUT", ids+"abc", tc.body); a.Code() != tc.code {
			t.Errorf("%s: %s", tc.name, a.Text)
		}
	}
	d.Want(404, "GET", ids+"abc", "")
}

func TestResourceLists(t *testing.T) {
	d := door(t)
	for _, g := range []string{"g", "h"} {
		d.Want(201, "PUT", s+"/resourceGroups/"+g, `{"location":"westus2"}`)
		for _, n := range []string{"aaa", "bbb", "ccc"} {
			d.Want(201, "PUT", s+"/resourceGroups/"+g+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"+g+n, `{"location":"westus2","tags":{"n":"`+n+`"}}`)
		}
	}
	names := func(path string) string {
		t.Helper()
		var b strings.Builder
		for path != "" {
			a := d.Want(200, "GET", path, "")
			for i := range 9 {
				b.WriteString(a.Field(fmt.Sprintf("value.%d.name", i)) + " ")
			}
			path = strings.TrimPrefix(a.Field("nextLink"), "https://door.test")
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	for path, want := range map[string]string{
		s + "/resources":        "gaaa gbbb gccc haaa hbbb hccc",
		s + "/resources?$top=2": "gaaa gbbb gccc haaa hbbb hccc",
		s + "/resources?$top=1&$filter=tagName eq 'n' and tagValue eq 'bbb'": "gbbb hbbb",
		s + "/resourceGroups/h/resources":                                    "haaa hbbb hccc",
		s + "/resources?$filter=resourceGroup eq 'H' and name eq 'hbbb'":     "hbbb",
		s + "/resources?$filter=resourceType eq 'Microsoft.Compute/images'":  "",
		s + "/resources?$filter=substringof('bb', name)":                     "gbbb hbbb",
		s + "/resources?$filter=startswith(tagname,'n') and name ne 'gaaa'":  "gbbb gccc haaa hbbb hccc",
		s + "/resources?$filter=location eq 'West US 2' and name eq 'gaaa'":  "gaaa",
	} {
		if got := names(path); got != want {
			t.Errorf("%s lists %q, want %q", path, got, want)
		}
	}
	d.Want(400, "GET", s+"/resources?$filter=color eq 'red'", "")
	d.Want(400, "GET", s+"/resources?$filter=(", "")
	if a := d.Want(404, "GET", s+"/resourceGroups/none/resources", ""); a.Code() != "ResourceGroupNotFound" {
		t.Error(a.Text)
	}
	d.Allow = func(q armapi.Access) bool {
		return strings.HasSuffix(q.Scope, "/h") || strings.Contains(q.Scope, "/h/")
	}
	if a := d.As("some", "GET", s+"/resources", ""); a.Status != 200 || a.Field("value.0.name") != "haaa" || a.Field("value.3.name") != "" {
		t.Errorf("narrowed: %d %s", a.Status, a.Text)
	}
	if a := d.As("some", "GET", s+"/resourcegroups", ""); a.Status != 200 || a.Field("value.0.name") != "h" || a.Field("value.1.name") != "" {
		t.Errorf("narrowed: %d %s", a.Status, a.Text)
	}
}

func TestGroupDelete(t *testing.T) {
	var stopped, removed []string
	gate := make(chan struct{})
	d := door(t, func(c *resources.Config) {
		c.Deleting = append(c.Deleting, func(ctx context.Context, id string) error {
			stopped = append(stopped, id)
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		c.Removed = append(c.Removed, func(_ context.Context, ids []string) error { removed = ids; return nil })
	})
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	d.Want(201, "PUT", ids+"abc", `{"location":"westus2"}`)
	a := d.Want(202, "DELETE", rg, "")
	if a.Header.Get("Location") == "" || a.Header.Get("Azure-AsyncOperation") != "" || a.Header.Get("Retry-After") != "1" {
		t.Fatalf("headers %v", a.Header)
	}
	if a := d.Want(200, "GET", rg, ""); a.Field("properties.provisioningState") != "Deleting" {
		t.Error(a.Text)
	}
	for _, w := range [][3]string{{"PUT", ids + "def", `{"location":"westus2"}`}, {"PATCH", ids + "abc", `{}`}, {"PUT", rg, `{"location":"westus2"}`}, {"DELETE", rg, ""}} {
		if a := d.Want(409, w[0], w[1], w[2]); a.Code() != "ResourceGroupBeingDeleted" {
			t.Error(a.Text)
		}
	}
	close(gate)
	if a := d.Follow(a); a.Status != 200 || a.Text != "" {
		t.Errorf("the end of the deletion: %d %s", a.Status, a.Text)
	}
	d.Want(404, "GET", rg, "")
	if a := d.Want(404, "GET", ids+"abc", ""); a.Code() != "ResourceGroupNotFound" {
		t.Error(a.Text)
	}
	if len(stopped) != 1 || stopped[0] != s+"/resourceGroups/g" || len(removed) != 2 {
		t.Errorf("stopped %v, removed %v", stopped, removed)
	}
}

func TestGroupDeleteThatFails(t *testing.T) {
	d := door(t, func(c *resources.Config) {
		c.Deleting = append(c.Deleting, func(context.Context, string) error { return arm.Errorf(arm.CodeConflict, "a build runs") })
	})
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	if a := d.Follow(d.Want(202, "DELETE", rg, "")); a.Status != 409 || a.Code() != "ResourceGroupDeletionBlocked" || a.Field("error.details.0.code") != "Conflict" {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	if a := d.Want(200, "GET", rg, ""); a.Field("properties.provisioningState") != "Succeeded" {
		t.Error(a.Text)
	}
}

func TestGroupDeleteSurvivesARestart(t *testing.T) {
	db := memory.New()
	first := over(t, db, func(c *resources.Config) {
		c.Deleting = append(c.Deleting, func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
	})
	first.Want(201, "PUT", rg, `{"location":"westus2"}`)
	a := first.Want(202, "DELETE", rg, "")
	first.API.Close()
	second := over(t, db)
	second.Want(202, "GET", strings.TrimPrefix(a.Header.Get("Location"), "https://door.test"), "")
	if err := second.API.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := second.Follow(a); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	second.Want(404, "GET", rg, "")
}

// Whatever the order, nothing is left of a deleted group.
func TestGroupDeleteRacesWrites(t *testing.T) {
	d := door(t)
	for round := range 20 {
		d.Want(201, "PUT", rg, `{"location":"westus2"}`)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				a := d.Do("PUT", fmt.Sprintf("%sid%d", ids, i), `{"location":"westus2"}`)
				if a.Status != 201 && a.Code() != "ResourceGroupNotFound" && a.Code() != "ResourceGroupBeingDeleted" {
					t.Errorf("%d %s", a.Status, a.Text)
				}
			})
		}
		deleted := d.Do("DELETE", rg, "")
		wg.Wait()
		d.Follow(deleted)
		left, _, err := d.DB.Resources().List(t.Context(), resource.Query{Scope: rg})
		if err != nil || len(left) != 0 {
			t.Fatalf("round %d: %d records are left (%v)", round, len(left), err)
		}
	}
}

func TestTwoPutsAtOnce(t *testing.T) {
	d := door(t)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	var wg sync.WaitGroup
	var mu sync.Mutex
	created, principals := 0, map[string]bool{}
	for range 16 {
		wg.Go(func() {
			a := d.Do("PUT", ids+"abc", `{"location":"westus2"}`)
			mu.Lock()
			defer mu.Unlock()
			if a.Status == 201 {
				created++
			} else if a.Status != 200 {
				t.Errorf("%d %s", a.Status, a.Text)
			}
			principals[a.Field("properties.principalId")] = true
		})
	}
	wg.Wait()
	if created != 1 || len(principals) != 1 {
		t.Errorf("%d created it, with the ids %v", created, principals)
	}
}

func TestTags(t *testing.T) {
	d := door(t)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	tags := rg + "/providers/Microsoft.Resources/tags/default"
	for _, tc := range []struct{ method, body, want string }{
		{"PUT", `{"properties":{"tags":{"a":"1","b":"2"}}}`, `{"a":"1","b":"2"}`},
		{"PATCH", `{"operation":"Merge","properties":{"tags":{"A":"3"}}}`, `{"A":"3","b":"2"}`},
		{"PATCH", `{"operation":"Delete","properties":{"tags":{"B":""}}}`, `{"A":"3"}`},
		{"PATCH", `{"operation":"Replace","properties":{"tags":{"c":"4"}}}`, `{"c":"4"}`},
		{"GET", "", `{"c":"4"}`},
	} {
		if a := d.Want(200, tc.method, tags, tc.body); a.Field("properties.tags") != tc.want {
			t.Errorf("%s %s: %s", tc.method, tc.body, a.Text)
		}
	}
	if a := d.Want(200, "GET", s+"/tagNames", ""); a.Field("value.0.tagName") != "c" || a.Field("value.0.count.value") != "1" {
		t.Error(a.Text)
	}
	d.Want(400, "PATCH", tags, `{"operation":"Paint"}`)
	d.Want(200, "DELETE", tags, "")
	if a := d.Want(200, "GET", rg, ""); a.Field("tags") != "{}" {
		t.Error(a.Text)
	}
	d.Want(404, "GET", s+"/resourceGroups/none/providers/Microsoft.Resources/tags/default", "")
}

func TestFeatures(t *testing.T) {
	d := door(t)
	path := s + "/providers/Microsoft.Features/providers/Microsoft.VirtualMachineImages/features/VirtualMachineTemplatePreview"
	if a := d.Want(200, "GET", path, ""); a.Field("properties.state") != "NotRegistered" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "POST", path+"/register", ""); a.Field("properties.state") != "Registered" || a.Field("name") != "Microsoft.VirtualMachineImages/VirtualMachineTemplatePreview" {
		t.Error(a.Text)
	}
	if ok, err := d.API.Registered(t.Context(), "Microsoft.VirtualMachineImages"); err != nil || !ok {
		t.Errorf("the feature did not register its provider: %v", err)
	}
	d.Want(200, "POST", s+"/providers/Microsoft.Features/providers/Microsoft.Compute/features/GalleryPreview/register", "")
	if a := d.Want(200, "GET", s+"/providers/Microsoft.Features/features", ""); a.Field("value.0.name") != "Microsoft.Compute/GalleryPreview" || a.Field("value.1.properties.state") != "Registered" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "GET", s+"/providers/Microsoft.Features/providers/Microsoft.VirtualMachineImages/features", ""); a.Field("value.1.name") != "" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "POST", path+"/unregister", ""); a.Field("properties.state") != "Unregistered" {
		t.Error(a.Text)
	}
}

func TestSubscriptions(t *testing.T) {
	d := door(t)
	if a := d.Want(200, "GET", "/subscriptions", ""); a.Field("value.0.subscriptionId") != armapitest.Subscription || a.Field("value.0.state") != "Enabled" || strings.Contains(a.Field("value.0.displayName"), "id") {
		t.Error(a.Text)
	}
	d.Want(200, "GET", s, "")
	if a := d.Want(200, "GET", "/tenants", ""); a.Field("value.0.tenantId") != armapitest.Tenant {
		t.Error(a.Text)
	}
	if a := d.Want(200, "GET", s+"/locations", ""); !strings.Contains(a.Text, `"name":"westus2"`) {
		t.Error(a.Text)
	}
	if a := d.As("some", "GET", "/subscriptions", ""); a.Status != 200 || a.Field("value") != "[]" {
		t.Errorf("somebody without a right sees %s", a.Text)
	}
	if a := d.As("some", "GET", s, ""); a.Status != 403 {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	_, _, err := d.DB.Resources().Put(t.Context(), resource.Record{
		ID: s + "/resourceGroups/g/providers/Microsoft.Authorization/roleAssignments/x", Type: rbac.TypeAssignment, Name: "x",
		Properties: json.RawMessage(`{"principalId":"SOME","roleDefinitionId":"x"}`),
	}, resource.Condition{})
	if err := errors.Join(err); err != nil {
		t.Fatal(err)
	}
	if a := d.As("some", "GET", "/subscriptions", ""); a.Field("value.0.subscriptionId") != armapitest.Subscription {
		t.Errorf("somebody with a right in a group sees %s", a.Text)
	}
}
