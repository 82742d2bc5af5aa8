package preflight

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/rbac"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	root         = "/subscriptions/" + subscription + "/resourceGroups/"
	identityID   = root + "ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/aib"
	buildID      = root + "ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/vm"
	identityOID  = "aaaaaaaa-0000-0000-0000-000000000001"

	sourceImage   = root + "src/providers/Microsoft.Compute/images/base"
	sourceVersion = root + "src/providers/Microsoft.Compute/galleries/gal/images/def/versions/1.2.3"
	targetImage   = root + "dst/providers/Microsoft.Compute/images/out"
	targetGallery = root + "dst/providers/Microsoft.Compute/galleries/gal/images/def"
	subnet        = root + "net/providers/Microsoft.Network/virtualNetworks/vnet/subnets/build"
)

// scenario is a template of one kind and the actions that the permissions
// document lists for it, with the groups in which they are needed.
type scenario struct {
	name    string
	version string
	source  string
	profile string
	target  string
	want    []string // "action group"
}

const (
	oldVersion = "2019-05-01-preview"
	newVersion = "2020-02-14"

	platform     = `{"type": "PlatformImage", "publisher": "p", "offer": "o", "sku": "s", "version": "latest"}`
	fromImage    = `{"type": "ManagedImage", "imageId": "` + sourceImage + `"}`
	fromVersion  = `{"type": "SharedImageVersion", "imageVersionId": "` + sourceVersion + `"}`
	toImage      = `{"type": "ManagedImage", "imageId": "` + targetImage + `", "location": "westus2", "runOutputName": "out"}`
	toGallery    = `{"type": "SharedImage", "galleryImageId": "` + targetGallery + `", "replicationRegions": ["westus2"], "runOutputName": "out"}`
	toVHD        = `{"type": "VHD", "runOutputName": "out"}`
	vnetByName   = `"vmProfile": {"vnetConfig": {"name": "vnet", "subnetName": "build", "resourceGroupName": "net"}}`
	vnetBySubnet = `"vmProfile": {"vnetConfig": {"subnetId": "` + subnet + `"}}`
)

var (
	imageTarget   = []string{"Microsoft.Compute/images/write dst", "Microsoft.Compute/images/read dst", "Microsoft.Compute/images/delete dst"}
	galleryTarget = append(slices.Clone(imageTarget),
		"Microsoft.Compute/galleries/read dst", "Microsoft.Compute/galleries/images/read dst",
		"Microsoft.Compute/galleries/images/versions/read dst", "Microsoft.Compute/galleries/images/versions/write dst")
	versionSource = []string{
		"Microsoft.Compute/galleries/read src", "Microsoft.Compute/galleries/images/read src", "Microsoft.Compute/galleries/images/versions/read src",
	}
	networkNeeds = []string{"Microsoft.Network/virtualNetworks/read net", "Microsoft.Network/virtualNetworks/subnets/join/action net"}
)

var scenarios = []scenario{
	{"nothing but staging", oldVersion, platform, "", toVHD, nil},
	{"nothing but staging, identity", newVersion, platform, "", toVHD, nil},
	{"distribute to a managed image", oldVersion, platform, "", toImage, imageTarget},
	{"distribute to a managed image, identity", newVersion, platform, "", toImage, imageTarget},
	{"distribute to a gallery", oldVersion, platform, "", toGallery, galleryTarget},
	{"distribute to a gallery, identity", newVersion, platform, "", toGallery, galleryTarget},
	{"from a managed image", oldVersion, fromImage, "", toVHD, []string{"Microsoft.Compute/images/read src", "Microsoft.Compute/galleries/read src"}},
	{"from a managed image, identity", newVersion, fromImage, "", toVHD, []string{"Microsoft.Compute/images/read src"}},
	{"from a gallery version", oldVersion, fromVersion, "", toVHD, versionSource},
	{"from a gallery version, identity", newVersion, fromVersion, "", toVHD, versionSource},
	{"on a network", oldVersion, platform, vnetByName, toVHD, networkNeeds},
	{"on a network, identity", newVersion, platform, vnetBySubnet, toVHD, networkNeeds},
	{"everything", oldVersion, fromVersion, vnetByName, toGallery, slices.Concat(versionSource, networkNeeds, galleryTarget)},
	{"everything, identity", newVersion, fromVersion, vnetBySubnet, toGallery, slices.Concat(versionSource, networkNeeds, galleryTarget)},
}

func parse(t testing.TB, version, source, more, target string) *imagetemplate.Template {
	t.Helper()
	members := []string{`"source": ` + source, `"customize": [{"type": "Shell", "scriptUri": "https://acct.blob.core.windows.net/scripts/a.sh?x=1"}]`, `"distribute": [` + target + `]`}
	if more != "" {
		members = append(members, more)
	}
	identity := ""
	if !ByService(version) {
		identity = `"identity": {"type": "UserAssigned", "userAssignedIdentities": {"` + identityID + `": {}}},`
	}
	return parseBody(t, version, `{"location": "westus2", `+identity+` "properties": {`+strings.Join(members, ", ")+`}}`)
}

func parseBody(t testing.TB, version, body string) *imagetemplate.Template {
	t.Helper()
	res := imagetemplate.Parse([]byte(body), imagetemplate.Options{APIVersion: version})
	if res.Template == nil {
		t.Fatalf("the template has problems: %+v", res.Problems)
	}
	return res.Template
}

func env() Env {
	return Env{Subscription: subscription, Group: "tmpl", Name: "t", Identities: map[string]Account{
		strings.ToLower(identityID): {Object: identityOID, Client: "aaaaaaaa-0000-0000-0000-0000000000cc"},
		strings.ToLower(buildID):    {Object: "aaaaaaaa-0000-0000-0000-000000000002"},
	}}
}

// listed is needs in the form of scenario.want.
func listed(needs []Need) []string {
	var out []string
	for _, n := range needs {
		id, _ := arm.ParseID(n.Grant)
		out = append(out, n.Action+" "+id.Group)
	}
	return out
}

func TestScenariosNeedWhatTheDocumentLists(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			needs := Needs(parse(t, s.version, s.source, s.profile, s.target), env())
			if diff := cmp.Diff(s.want, listed(needs)); diff != "" {
				t.Error(diff)
			}
			for _, n := range needs {
				if want := s.version == oldVersion; (n.Principal.Kind == Service) != want || (n.Principal.Object == rbac.BuilderObject) != want {
					t.Errorf("%s is needed by %s", n.Action, n.Principal)
				}
				if !rbac.Covers(n.Grant, n.Scope) || n.Why == "" || n.Pointer == "" {
					t.Errorf("%+v is incomplete", n)
				}
			}
		})
	}
}

// policyOf assigns what grants say, and nothing else.
func policyOf(grants []Grant, keep func(action string) bool) *rbac.Policy {
	var s rbac.State
	for i, g := range grants {
		id := fmt.Sprintf("/subscriptions/%s/providers/%s/00000000-0000-0000-0000-%012d", subscription, rbac.TypeRole, i)
		if g.Role != nil {
			s.Roles = append(s.Roles, rbac.Role{ID: id, RoleName: g.RoleName, Permissions: []rbac.Permission{
				{Actions: slices.DeleteFunc(slices.Clone(g.Role.Actions), func(a string) bool { return !keep(a) })},
			}})
		} else if r, ok := rbac.BuiltInRole(g.RoleName); ok {
			id = r.ID
		}
		for _, scope := range g.Scopes {
			s.Assignments = append(s.Assignments, rbac.Assignment{ID: scope + "/x", Scope: scope, Role: id, Principal: g.Principal.Object})
		}
	}
	return rbac.Compile(s)
}

func TestTheReportsRolesAreEnoughAndNoneTooMany(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			tmpl := parse(t, s.version, s.source, s.profile, s.target)
			grants := Grants(Needs(tmpl, env()))
			if r := Check(tmpl, env(), policyOf(grants, func(string) bool { return true }), Options{}); !r.OK() || r.Err() != nil {
				t.Errorf("with exactly the listed roles: %v", r.Err())
			}
			for _, want := range s.want {
				removed, _, _ := strings.Cut(want, " ")
				r := Check(tmpl, env(), policyOf(grants, func(a string) bool { return a != removed }), Options{})
				if r.OK() {
					t.Errorf("without %s nothing is found", removed)
				}
				for _, n := range r.Missing() {
					if n.Action != removed {
						t.Errorf("without %s, %s is missing", removed, n.Action)
					}
				}
				if err := r.Err(); !strings.Contains(err.Error(), removed) || !strings.Contains(err.Error(), r.Missing()[0].Scope) {
					t.Errorf("the error does not name %s and its scope: %v", removed, err)
				}
			}
			// Contributor at the target's group and Reader at the source's suffice too.
			p := Principal{Object: rbac.BuilderObject}
			if s.version == newVersion {
				p.Object = identityOID
			}
			broad := []Grant{
				{Principal: p, RoleName: "Contributor", Scopes: []string{root + "dst", root + "net"}},
				{Principal: p, RoleName: "Reader", Scopes: []string{root + "src"}},
			}
			if r := Check(tmpl, env(), policyOf(broad, nil), Options{}); !r.OK() {
				t.Errorf("with Contributor and Reader: %v", r.Err())
			}
		})
	}
}

func TestRolesHaveTheDocumentsForm(t *testing.T) {
	tmpl := parse(t, oldVersion, fromImage, vnetByName, toGallery)
	grants := Grants(Needs(tmpl, env()))
	for _, g := range grants {
		if g.Role == nil {
			continue
		}
		var keys []string
		d := json.NewDecoder(strings.NewReader(string(g.Role.JSON())))
		for depth := 0; d.More() || depth > 0; {
			tok, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			switch v := tok.(type) {
			case json.Delim:
				if v == '{' || v == '[' {
					depth++
				} else {
					depth--
				}
			case string:
				if depth == 1 && !strings.Contains(v, " ") {
					keys = append(keys, v)
				}
			}
		}
		if diff := cmp.Diff([]string{"Name", "IsCustom", "Description", "Actions", "NotActions", "AssignableScopes"}, keys); diff != "" {
			t.Error(diff)
		}
		r := rbac.Role{ID: "/subscriptions/" + subscription + "/providers/" + rbac.TypeRole + "/x", RoleName: g.Role.Name, AssignableScopes: g.Role.AssignableScopes, Permissions: []rbac.Permission{{Actions: g.Role.Actions}}}
		if err := rbac.CheckRole(r, g.Role.AssignableScopes[0], nil); err != nil {
			t.Error(err)
		}
	}
}

func TestReportText(t *testing.T) {
	for _, s := range scenarios {
		if !strings.HasPrefix(s.name, "everything") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			text := Check(parse(t, s.version, s.source, s.profile, s.target), env(), rbac.Compile(rbac.State{}), Options{Unregistered: true}).Text()
			golden(t, strings.ReplaceAll(s.name, ", ", "-"), text)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkCheck(b *testing.B) {
	tmpl := parse(b, newVersion, fromVersion, vnetBySubnet, toGallery)
	policy := policyOf(Grants(Needs(tmpl, env())), func(string) bool { return true })
	e := env()
	for b.Loop() {
		if r := Check(tmpl, e, policy, Options{}); !r.OK() {
			b.Fatal(r.Err())
		}
	}
}
