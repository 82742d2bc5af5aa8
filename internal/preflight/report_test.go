package preflight

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/rbac"
)

const blobAccount = root + "sto/providers/Microsoft.Storage/storageAccounts/acct"

// ours knows one storage account, with a private container and a public one.
func ours(uri string) (Blob, bool) {
	rest, ok := strings.CutPrefix(uri, "https://acct.blob.core.windows.net/")
	if !ok {
		return Blob{}, false
	}
	container, _, _ := strings.Cut(rest, "/")
	return Blob{Account: blobAccount, Container: container, Open: container == "public" || strings.Contains(rest, "sig=")}, true
}

func TestPrivateContainersAreReadByTheIdentityAtSubmission(t *testing.T) {
	e := env()
	e.Blob = ours
	const container = blobAccount + "/blobServices/default/containers/scripts"
	for _, version := range []string{oldVersion, newVersion} {
		tmpl := parse(t, version, platform, "", toVHD)
		if version == oldVersion {
			tmpl.Identity = &imagetemplate.Identity{Type: "UserAssigned", UserAssigned: []string{identityID}}
		}
		needs := Needs(tmpl, e)
		want := []Need{{
			Principal: TemplateIdentity(tmpl, e), Action: BlobRead, Data: true, Scope: container, Grant: container, Phase: AtSubmit, Purpose: Blobs,
			Why: "read https://acct.blob.core.windows.net/scripts/a.sh", Pointer: "/properties/customize/0",
		}}
		if diff := cmp.Diff(want, needs); diff != "" {
			t.Error(diff)
		}
		none := rbac.Compile(rbac.State{})
		if r := Check(tmpl, e, none, Options{}); r.OK() || r.Findings[0].Code != arm.CodeUnauthorized {
			t.Errorf("%s: findings %+v", version, r.Findings)
		}
		if r := Check(tmpl, e, none, Options{Run: true}); !r.OK() {
			t.Errorf("%s: a run needs what was frozen: %v", version, r.Err())
		}
		if r := Check(tmpl, e, policyOf(Grants(needs), nil), Options{}); !r.OK() {
			t.Errorf("%s: with the listed role: %v", version, r.Err())
		}
	}
	// Without an identity nobody can read it.
	tmpl := parse(t, oldVersion, platform, "", toVHD)
	if r := Check(tmpl, e, policyOf(Grants(Needs(tmpl, e)), nil), Options{}); r.OK() || !strings.Contains(r.Err().Error(), "the template's identity, of which there is none") {
		t.Errorf("findings %+v", r.Findings)
	}
	for _, open := range []string{"https://acct.blob.core.windows.net/public/a.sh", "https://acct.blob.core.windows.net/scripts/a.sh?sig=x", "https://example.com/a.sh"} {
		tmpl.Customize[0].ScriptURI = open
		if needs := Needs(tmpl, e); len(needs) != 0 {
			t.Errorf("%s needs %v", open, needs)
		}
	}
}

func TestIdentities(t *testing.T) {
	lost := env()
	delete(lost.Identities, strings.ToLower(identityID))
	everything := rbac.Compile(rbac.State{Assignments: []rbac.Assignment{
		{ID: "a", Scope: "/", Role: rbac.Owner, Principal: identityOID}, {ID: "b", Scope: "/", Role: rbac.Owner, Principal: rbac.BuilderObject},
	}})
	newTemplate := parse(t, newVersion, fromImage, "", toImage)
	oldTemplate := parse(t, oldVersion, fromImage, "", toImage)
	withIdentity := parse(t, oldVersion, fromImage, "", toImage)
	withIdentity.Identity = &imagetemplate.Identity{Type: "UserAssigned", UserAssigned: []string{identityID}}
	without := parse(t, newVersion, fromImage, "", toImage)
	without.Identity = nil
	for _, tt := range []struct {
		name string
		tmpl *imagetemplate.Template
		env  Env
		run  bool
		want string // "" fine
	}{
		{"identity", newTemplate, env(), false, ""},
		{"identity that is gone", newTemplate, lost, false, "The assigned managed identity cannot be used."},
		{"identity that is gone, at run", newTemplate, lost, true, "The assigned managed identity cannot be used."},
		{"none, by the service principal", oldTemplate, lost, false, ""},
		{"one, by the service principal", withIdentity, env(), false, ""},
		{"gone, by the service principal", withIdentity, lost, false, "The assigned managed identity cannot be used."},
		{"gone at run, by the service principal", withIdentity, lost, true, ""},
		{"none where one is required", without, env(), false, "Managed identity is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.tmpl, tt.env, everything, Options{Run: tt.run}).Err()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestBuildIdentitiesNeedTheOperatorOnEach(t *testing.T) {
	tmpl := parse(t, "2021-10-01", platform, `"vmProfile": {"userAssignedIdentities": ["`+buildID+`"]}`, toVHD)
	needs := Needs(tmpl, env())
	if len(needs) != 1 || needs[0].Action != identityUse || needs[0].Scope != buildID || needs[0].Principal.ID != identityID {
		t.Fatalf("needs %+v", needs)
	}
	grants := Grants(needs)
	if len(grants) != 1 || grants[0].RoleName != "Managed Identity Operator" || grants[0].Role != nil {
		t.Fatalf("grants %+v", grants)
	}
	if r := Check(tmpl, env(), policyOf(grants, nil), Options{}); !r.OK() {
		t.Error(r.Err())
	}
	gone := env()
	delete(gone.Identities, strings.ToLower(buildID))
	if r := Check(tmpl, gone, policyOf(grants, nil), Options{}); r.OK() || r.Findings[0].Pointer != "/properties/vmProfile/userAssignedIdentities/0" {
		t.Errorf("findings %+v", r.Findings)
	}
}

func TestStagingGroupOfTheTemplate(t *testing.T) {
	tmpl := parse(t, "2022-02-14", platform, `"stagingResourceGroup": "/subscriptions/`+subscription+`/resourceGroups/stage"`, toVHD)
	grants := Grants(Needs(tmpl, env()))
	if len(grants) != 1 || grants[0].RoleName != "Contributor" || grants[0].Scopes[0] != "/subscriptions/"+subscription+"/resourceGroups/stage" {
		t.Fatalf("grants %+v", grants)
	}
	if r := Check(tmpl, env(), policyOf(grants, nil), Options{}); !r.OK() {
		t.Error(r.Err())
	}
	if r := Check(tmpl, env(), rbac.Compile(rbac.State{}), Options{}); r.OK() {
		t.Error("nothing is missing")
	}
}

func TestTheCallerNeedsToWriteAndToAssign(t *testing.T) {
	e := env()
	e.Caller = &Principal{Kind: Caller, Object: "cccccccc-0000-0000-0000-000000000001", Name: "carol"}
	tmpl := parse(t, newVersion, platform, "", toVHD)
	needs := Needs(tmpl, e)
	if len(needs) != 2 || needs[0].Action != templatePut || needs[1].Action != identityUse || needs[1].Scope != identityID {
		t.Fatalf("needs %+v", needs)
	}
	r := Check(tmpl, e, rbac.Compile(rbac.State{}), Options{})
	if err := r.Err(); !strings.Contains(err.Error(), "The client 'carol' with object id 'cccccccc-0000-0000-0000-000000000001' does not have authorization") {
		t.Error(err)
	}
	if r := Check(tmpl, e, rbac.Compile(rbac.State{}), Options{Run: true}); !r.OK() {
		t.Errorf("a run asks for the caller's rights: %v", r.Err())
	}
	if r := Check(tmpl, e, policyOf(Grants(needs), nil), Options{}); !r.OK() {
		t.Error(r.Err())
	}
}

func TestAnotherSourceNeedsNoRight(t *testing.T) {
	e := env()
	e.OtherSource = true
	if needs := Needs(parse(t, newVersion, fromImage, "", toVHD), e); len(needs) != 0 {
		t.Errorf("needs %+v", needs)
	}
}

// Whatever a template needs, the grants that are made of it are enough, and
// every command has one word per argument.
func TestGrantsAreEnough(t *testing.T) {
	names := rapid.SampledFrom([]string{"src", "dst", "net", "other"})
	rapid.Check(t, func(rt *rapid.T) {
		move := func(s string) string {
			for _, g := range []string{"src", "dst", "net"} {
				s = strings.ReplaceAll(s, "resourceGroups/"+g+"/", "resourceGroups/"+names.Draw(rt, g)+"/")
			}
			return s
		}
		version := rapid.SampledFrom([]string{oldVersion, newVersion, "2022-07-01"}).Draw(rt, "version")
		source := rapid.SampledFrom([]string{platform, fromImage, fromVersion}).Draw(rt, "source")
		profile := rapid.SampledFrom([]string{"", vnetBySubnet}).Draw(rt, "profile")
		if version == oldVersion && profile != "" {
			profile = vnetByName
		}
		target := strings.ReplaceAll(toImage, `"out"`, `"out1"`) + ", " + toGallery
		tmpl := parse(t, version, move(source), profile, move(target))
		needs := Needs(tmpl, env())
		grants := Grants(needs)
		if r := Check(tmpl, env(), policyOf(grants, func(string) bool { return true }), Options{}); !r.OK() {
			rt.Fatal(r.Err())
		}
		names := map[string]bool{}
		for _, g := range grants {
			if g.Role != nil && names[g.RoleName] {
				rt.Fatalf("two roles are named %s", g.RoleName)
			}
			names[g.RoleName] = true
		}
	})
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/subscriptions/x/resourceGroups/a.b_c-d": "/subscriptions/x/resourceGroups/a.b_c-d",
		"Some Role":              `"Some Role"`,
		"/x/resourceGroups/a(b)": `"/x/resourceGroups/a(b)"`,
		"$(reboot)":              `'$(reboot)'`,
		"it's":                   `'it'\''s'`,
		"":                       `""`,
	} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
