//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

// accessTemplate writes a template of an API version with one target.
func accessTemplate(t *testing.T, version, name string, source map[string]any, targets ...map[string]any) (path string) {
	t.Helper()
	body := map[string]any{
		"apiVersion": version, "type": "Microsoft.VirtualMachineImages/imageTemplates", "name": name, "location": "westus2",
		"properties": map[string]any{
			"source": source, "customize": []step{shell("mark", "sudo touch /opt/access")}, "distribute": targets,
			"vmProfile": map[string]any{"vmSize": "Standard_B1ms"}, "buildTimeoutInMinutes": 60,
		},
	}
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), name+".json")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// grantOnly lets the identity of the tests' templates do exactly actions in a
// resource group, by a role of its own; nobody else has a right there then.
func (h host) grantOnly(t *testing.T, group string, actions ...string) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(h.data, "goldsmith.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	settings, err := db.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sub := "/subscriptions/" + settings.SubscriptionID
	scope := sub + "/resourceGroups/" + group
	old, _, err := db.Resources().List(t.Context(), resource.Query{Scope: scope, Type: rbac.TypeAssignment})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range old {
		if _, err := db.Resources().Delete(t.Context(), r.ID, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	put := func(id, typ string, properties any, cond resource.Condition) resource.Record {
		raw, err := json.Marshal(properties)
		if err != nil {
			t.Fatal(err)
		}
		rec, _, err := db.Resources().Put(t.Context(), resource.Record{ID: id, Type: typ, Name: id[strings.LastIndexByte(id, '/')+1:], Location: "westus2", Properties: raw}, cond)
		if arm.IsCode(err, arm.CodePreconditionFailed) {
			rec, err = db.Resources().Get(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	const identities = "Microsoft.ManagedIdentity/userAssignedIdentities"
	identity := put(sub+"/resourceGroups/vm-test/providers/"+identities+"/builder", identities,
		map[string]any{"tenantId": settings.TenantID, "principalId": uuid.NewString(), "clientId": uuid.NewString()}, resource.Condition{IfNoneMatch: true})
	var who struct {
		Principal string `json:"principalId"`
	}
	if err := json.Unmarshal(identity.Properties, &who); err != nil {
		t.Fatal(err)
	}
	const guid = "7e57ac10-0000-4000-8000-000000000001"
	role := rbac.Role{
		ID: sub + "/providers/" + rbac.TypeRole + "/" + guid, RoleName: "exactly this, for a test", AssignableScopes: []string{sub},
		Permissions: []rbac.Permission{{Actions: actions}},
	}
	put(role.ID, rbac.TypeRole, role.Properties(), resource.Condition{})
	put(scope+"/providers/"+rbac.TypeAssignment+"/"+guid, rbac.TypeAssignment, map[string]any{"roleDefinitionId": role.ID, "principalId": who.Principal, "scope": scope}, resource.Condition{})
}

// TestAccessScenarios builds for real what the permissions document describes:
// to a managed image, to a gallery, from a managed image, from a gallery version.
// The one on an existing network is in TestExistingNetwork.
// Without grants nothing boots, and the missing action is named; a build of one's
// own grants exactly that, and then a strict build works.
func TestAccessScenarios(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	const version = "2019-05-01-preview"
	// Groups that nobody has a right in yet.
	mark := fmt.Sprintf("access-%x", time.Now().UnixNano())
	group := func(name string) string {
		return "/subscriptions/<subscriptionID>/resourceGroups/" + mark + "-" + name + "/providers/Microsoft.Compute/"
	}
	image := map[string]any{"type": "ManagedImage", "runOutputName": "image", "location": "westus2", "imageId": group("src") + "images/" + mark + "-base"}
	gallery := map[string]any{"type": "SharedImage", "runOutputName": "gallery", "replicationRegions": []string{"westus2"}, "galleryImageId": group("gal") + "galleries/gal/images/" + mark + "-def/versions/1.0.0"}
	vhd := map[string]any{"type": "VHD", "runOutputName": "vhd"}
	for _, s := range []struct {
		name    string
		source  map[string]any
		target  map[string]any
		missing string // "" where what came before has granted it
	}{
		{"to-image", debian, image, "Microsoft.Compute/images/write"},
		{"to-gallery", debian, gallery, "Microsoft.Compute/galleries/images/versions/write"},
		{"from-image", map[string]any{"type": "ManagedImage", "imageId": image["imageId"]}, vhd, "Microsoft.Compute/galleries/read"},
		{"from-version", map[string]any{"type": "SharedImageVersion", "imageVersionId": gallery["galleryImageId"]}, vhd, ""},
	} {
		name := mark + "-" + s.name
		path := accessTemplate(t, version, name, s.source, s.target)
		t.Cleanup(func() { _ = h.run(t, "template", "delete", name) })
		if s.missing != "" {
			r := h.run(t, "build", path, "--strict", "--progress", "plain")
			if r.code != 1 || !strings.Contains(r.stdout+r.stderr, s.missing) {
				t.Fatalf("%s without grants ends with %d and does not name %s:\n%s%s", s.name, r.code, s.missing, r.stdout, r.stderr)
			}
			if strings.Contains(r.stdout, "[start]") {
				t.Errorf("%s without grants starts a machine", s.name)
			}
			contains(t, h.must(t, "build", path, "--progress", "plain"), "granted ", "ended: Succeeded")
		} else {
			contains(t, h.must(t, "build", path, "--strict", "--progress", "plain"), "ended: Succeeded")
		}
		contains(t, h.must(t, "check", path), "Nothing is missing")
	}
	contains(t, h.must(t, "audit", "--denied", "--limit", "0"), mark)
	_ = h.run(t, "image", "delete", mark+"-base")
}
