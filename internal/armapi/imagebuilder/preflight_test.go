package imagebuilder_test

import (
	"net/http"
	"strings"
	"testing"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build"
	"goldsmith/internal/preflight"
)

// The service reports what the builder lacks, what its caller lacks, and what is
// wrong with networks, to whoever may read templates in the group.
func TestPreflight(t *testing.T) {
	d := imagebuildertest.New(t)
	path := "/subscriptions/" + d.Engine.Subscription() + "/providers/" + imagebuilder.Extension + "/preflight?api-version=2026-01-01"
	question := func(target string, vnet object) object {
		properties := object{
			"source":     object{"type": "PlatformImage", "publisher": "p", "offer": "o", "sku": "s", "version": "latest"},
			"distribute": []any{object{"type": "ManagedImage", "runOutputName": "out", "location": "westus2", "imageId": d.ID("Microsoft.Compute/images/" + target)}},
		}
		if vnet != nil {
			properties["vmProfile"] = object{"vnetConfig": vnet}
		}
		return object{"resourceGroup": "images", "name": "t", "apiVersion": "2022-07-01", "template": object{
			"location": "westus2", "properties": properties,
			"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{d.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"): object{}}},
		}}
	}
	type answer struct {
		Report  preflight.Report
		Network []build.NetworkIssue
	}
	ask := func(caller string, body any) (a answer) {
		t.Helper()
		got := d.As(caller, "POST", path, body)
		if got.Status != http.StatusOK {
			t.Fatalf("%d %s", got.Status, got.Text)
		}
		d.Decode(got, &a)
		return a
	}

	// The builder has every right; the caller may only look.
	const reader = "77777777-7777-7777-7777-777777777777"
	d.Allow = func(a armapi.Access) bool { return a.Caller.ObjectID == reader && strings.HasSuffix(a.Action, "/read") }
	a := ask(reader, question("out", nil))
	var missing []string
	for _, n := range a.Report.Missing() {
		missing = append(missing, n.Principal.Object+" "+n.Action)
	}
	want := reader + " Microsoft.VirtualMachineImages/imageTemplates/write|" + reader + " Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
	if got := strings.Join(missing, "|"); got != want || len(a.Report.Needs) != 5 || len(a.Network) > 0 {
		t.Errorf("%s\n%+v", got, a)
	}

	// A network that is not there.
	a = ask(imagebuildertest.Admin, question("out", object{"subnetId": d.ID("Microsoft.Network/virtualNetworks/none/subnets/build")}))
	if len(a.Network) != 1 || a.Network[0].Command == "" {
		t.Errorf("%+v", a.Network)
	}

	for what, c := range map[string]struct {
		caller string
		body   any
		status int
	}{
		"a stranger":         {"66666666-6666-6666-6666-666666666666", question("out", nil), http.StatusForbidden},
		"no name":            {imagebuildertest.Admin, object{"resourceGroup": "g", "template": object{}}, http.StatusBadRequest},
		"a path as a name":   {imagebuildertest.Admin, object{"resourceGroup": "g", "name": "a/b", "template": object{}}, http.StatusBadRequest},
		"no template":        {imagebuildertest.Admin, object{"resourceGroup": "g", "name": "t"}, http.StatusBadRequest},
		"a broken template":  {imagebuildertest.Admin, object{"resourceGroup": "g", "name": "t", "template": object{"location": 1}}, http.StatusBadRequest},
		"no object":          {imagebuildertest.Admin, []any{}, http.StatusBadRequest},
		"a number as a name": {imagebuildertest.Admin, object{"name": 1}, http.StatusBadRequest},
	} {
		if got := d.As(c.caller, "POST", path, c.body); got.Status != c.status {
			t.Errorf("%s: %d %s", what, got.Status, got.Text)
		}
	}
}
