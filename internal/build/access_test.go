package build_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// The two models of who the builder is.
const (
	byService  = "2019-05-01-preview"
	byIdentity = "2020-02-14"
)

// estate is a lab with things to build from and to publish to, in groups of
// their own, and no grants.
type estate struct {
	*buildtest.Lab
	image, version string // sources
	n              int    // templates so far
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{Lab: buildtest.New(t)}
	e.PutGroup()
	rec, events, err := e.Build(t.Context(), e.Request("base", buildtest.Template{
		Distribute: []buildtest.Object{e.ToImage("base"), e.ToGallery("def", "/versions/1.0.0", nil)},
	}))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	e.image, e.version = rec.Outputs[0].ArtifactID, rec.Outputs[1].ArtifactID
	e.Put(e.group("dst"), "Microsoft.Resources/resourceGroups", buildtest.Object{"provisioningState": "Succeeded"})
	gallery := e.group("dst") + "/providers/Microsoft.Compute/galleries/out"
	e.Put(gallery, "Microsoft.Compute/galleries", buildtest.Object{"provisioningState": "Succeeded"})
	e.Put(gallery+"/images/def", "Microsoft.Compute/galleries/images", buildtest.Object{
		"provisioningState": "Succeeded", "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2",
	})
	putNetwork(t, e.Lab, buildtest.Location, "Disabled", "10.7.0.0/24")
	e.revoke()
	return e
}

func (e *estate) group(name string) string {
	return arm.GroupID(e.Engine.Subscription(), name)
}

// revoke removes every assignment and custom role.
func (e *estate) revoke() {
	e.Helper()
	for _, typ := range []string{rbac.TypeAssignment, rbac.TypeRole} {
		records, _, err := e.Engine.Resources().List(e.Context(), resource.Query{Type: typ})
		if err != nil {
			e.Fatal(err)
		}
		for _, r := range records {
			if _, err := e.Engine.Resources().Delete(e.Context(), r.ID, resource.Condition{}); err != nil {
				e.Fatal(err)
			}
		}
	}
}

// right is an action in a resource group.
type right struct{ group, action string }

// allow revokes everything and grants a principal these rights only.
func (e *estate) allow(principal string, rights []right) {
	e.Helper()
	e.revoke()
	byGroup := map[string][]string{}
	for _, r := range rights {
		byGroup[r.group] = append(byGroup[r.group], r.action)
	}
	for group, actions := range byGroup {
		role := rbac.Role{
			ID:       "/subscriptions/" + e.Engine.Subscription() + "/providers/" + rbac.TypeRole + "/" + uuid.NewString(),
			RoleName: "exactly this in " + group, AssignableScopes: []string{e.group(group)}, Permissions: []rbac.Permission{{Actions: actions}},
		}
		if err := rbac.CheckRole(role, e.group(group), nil); err != nil {
			e.Fatal(err)
		}
		e.Put(role.ID, rbac.TypeRole, role.Properties())
		e.Assign(principal, role.ID, e.group(group))
	}
}

// template is a submission of an API version.
func (e *estate) template(version string, source, target buildtest.Object, vnet buildtest.Object) build.Submission {
	e.Helper()
	e.n++
	if source == nil {
		source = buildtest.Object{"type": "PlatformImage", "publisher": buildtest.Base.Publisher, "offer": buildtest.Base.Offer, "sku": buildtest.Base.SKU, "version": "latest"}
	}
	properties := buildtest.Object{
		"source": source, "distribute": []buildtest.Object{target}, "customize": []buildtest.Object{buildtest.Shell("hello", "echo hello")},
	}
	if vnet != nil {
		properties["vmProfile"] = buildtest.Object{"vnetConfig": vnet}
	}
	body := buildtest.Object{"location": buildtest.Location, "properties": properties}
	if version == byIdentity {
		body["identity"] = buildtest.Object{"type": "UserAssigned", "userAssignedIdentities": buildtest.Object{
			e.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"): buildtest.Object{},
		}}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		e.Fatal(err)
	}
	res := imagetemplate.Parse(raw, imagetemplate.Options{APIVersion: version, Service: true})
	if res.Template == nil {
		e.Fatalf("%+v", res.Problems)
	}
	id, err := arm.ParseID(e.ID(fmt.Sprintf("Microsoft.VirtualMachineImages/imageTemplates/t%d", e.n)))
	if err != nil {
		e.Fatal(err)
	}
	return build.Submission{ID: id, Template: res}
}

// submit creates a template and waits for its provisioning.
func (e *estate) submit(sub build.Submission) (resource.Record, build.Served) {
	e.Helper()
	rec, _, err := e.Engine.CreateTemplate(e.Context(), sub)
	if err != nil {
		e.Fatal(err)
	}
	return e.Provisioned(rec.ID)
}

func (e *estate) mustRun(template string) run.Record {
	e.Helper()
	started, err := e.Engine.StartRun(e.Context(), template)
	if err != nil {
		e.Fatal(err)
	}
	return e.Ended(started.ID)
}

// scenario is one of the permissions document's, with the rights that it lists.
type scenario struct {
	name           string
	source, target buildtest.Object
	vnet           map[string]buildtest.Object // by API version
	rights         map[string][]right          // by API version
}

func (e *estate) scenarios() []scenario {
	in := func(group string, actions ...string) (out []right) {
		for _, a := range actions {
			out = append(out, right{group, a})
		}
		return out
	}
	both := func(r []right) map[string][]right { return map[string][]right{byService: r, byIdentity: r} }
	image := in("dst", "Microsoft.Compute/images/write", "Microsoft.Compute/images/read", "Microsoft.Compute/images/delete")
	toVHD := buildtest.Object{"type": "VHD", "runOutputName": "out"}
	return []scenario{
		{
			name: "distribute to a managed image", rights: both(image),
			target: buildtest.Object{"type": "ManagedImage", "runOutputName": "out", "location": buildtest.Location, "imageId": e.group("dst") + "/providers/Microsoft.Compute/images/out"},
		},
		{
			name: "distribute to a gallery",
			rights: both(slices.Concat(image, in("dst", "Microsoft.Compute/galleries/read", "Microsoft.Compute/galleries/images/read",
				"Microsoft.Compute/galleries/images/versions/read", "Microsoft.Compute/galleries/images/versions/write"))),
			target: buildtest.Object{"type": "SharedImage", "runOutputName": "out", "replicationRegions": []string{buildtest.Location},
				"galleryImageId": e.group("dst") + "/providers/Microsoft.Compute/galleries/out/images/def"},
		},
		{
			name: "from a managed image", source: buildtest.Object{"type": "ManagedImage", "imageId": e.image}, target: toVHD,
			rights: map[string][]right{
				byService:  in(buildtest.Group, "Microsoft.Compute/images/read", "Microsoft.Compute/galleries/read"),
				byIdentity: in(buildtest.Group, "Microsoft.Compute/images/read"),
			},
		},
		{
			name: "from a gallery version", source: buildtest.Object{"type": "SharedImageVersion", "imageVersionId": e.version}, target: toVHD,
			rights: both(in(buildtest.Group, "Microsoft.Compute/galleries/read", "Microsoft.Compute/galleries/images/read", "Microsoft.Compute/galleries/images/versions/read")),
		},
		{
			name: "on an existing network", target: toVHD,
			vnet: map[string]buildtest.Object{
				byService:  {"name": "v", "subnetName": "build", "resourceGroupName": networkGroup},
				byIdentity: {"subnetId": networkID(e.Lab, "virtualNetworks/v/subnets/build")},
			},
			rights: both(in(networkGroup, "Microsoft.Network/virtualNetworks/read", "Microsoft.Network/virtualNetworks/subnets/join/action")),
		},
	}
}

func principalOf(version string) string {
	if version == byService {
		return rbac.BuilderObject
	}
	return buildtest.IdentityObject
}

// With exactly the listed actions a scenario works; without any one of them it
// fails before anything boots, and says which is missing and where.
func TestEveryScenarioNeedsEveryListedAction(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	for _, s := range e.scenarios() {
		for _, version := range []string{byService, byIdentity} {
			t.Run(s.name+"/"+version, func(t *testing.T) {
				all, principal := s.rights[version], principalOf(version)
				e.allow(principal, all)
				rec, served := e.submit(e.template(version, s.source, s.target, s.vnet[version]))
				if served.State != build.StateSucceeded {
					t.Fatalf("with exactly the listed actions: %+v", served.Problem)
				}
				if ended := e.mustRun(rec.ID); ended.State != run.Succeeded {
					t.Fatalf("the run: %s: %s", ended.State, ended.Message)
				}
				boots := len(e.Fake.Calls())
				for i, missing := range all {
					e.allow(principal, slices.Delete(slices.Clone(all), i, i+1))
					_, served := e.submit(e.template(version, s.source, s.target, s.vnet[version]))
					if served.State != build.StateFailed || served.Code != arm.CodeUnauthorized {
						t.Errorf("without %s: %s, %s", missing.action, served.State, served.Code)
						continue
					}
					if m := served.Problem.Message; !strings.Contains(m, missing.action) || !strings.Contains(m, e.group(missing.group)) {
						t.Errorf("without %s at %s the message is: %s", missing.action, missing.group, m)
					}
				}
				if n := len(e.Fake.Calls()); n != boots {
					t.Errorf("%d machines were started in vain", n-boots)
				}
			})
		}
	}
}

func TestContributorAndReaderSuffice(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	for _, version := range []string{byService, byIdentity} {
		e.revoke()
		e.Assign(principalOf(version), rbac.Contributor, e.group("dst"))
		e.Assign(principalOf(version), rbac.Reader, e.group(buildtest.Group))
		all := e.scenarios()
		_, served := e.submit(e.template(version, all[3].source, all[1].target, nil))
		if served.State != build.StateSucceeded {
			t.Errorf("%s: %+v", version, served.Problem)
		}
	}
}

func TestARightTakenAwayAfterSubmission(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	all := e.scenarios()
	for _, version := range []string{byService, byIdentity} {
		e.allow(principalOf(version), all[0].rights[version])
		rec, served := e.submit(e.template(version, nil, all[0].target, nil))
		if served.State != build.StateSucceeded {
			t.Fatalf("%+v", served.Problem)
		}
		e.revoke()
		boots := len(e.Fake.Calls())
		ended := e.mustRun(rec.ID)
		if ended.State != run.Failed || !strings.Contains(ended.Message, "Microsoft.Compute/images/write") {
			t.Errorf("%s: %s: %s", version, ended.State, ended.Message)
		}
		if n := len(e.Fake.Calls()); n != boots {
			t.Error("a machine was started in vain")
		}
		denied, err := e.decisions(audit.Query{Run: ended.ID, Denied: true})
		if err != nil || len(denied) != 3 || denied[0].Principal != principalOf(version) {
			t.Errorf("denials %+v, %v", denied, err)
		}
	}
}

// decisions lists the audit.
func (e *estate) decisions(q audit.Query) ([]audit.Record, error) {
	if err := e.Engine.Access().Flush(e.Context()); err != nil {
		return nil, err
	}
	return e.Engine.Audit().List(e.Context(), q)
}

func TestARightTakenAwayDuringTheRun(t *testing.T) {
	e := newEstate(t)
	req := e.Request("during", buildtest.Template{Distribute: []buildtest.Object{
		{"type": "ManagedImage", "runOutputName": "out", "location": buildtest.Location, "imageId": e.group("dst") + "/providers/Microsoft.Compute/images/out"},
		e.ToVHD("kept"),
	}})
	events := &buildtest.Recording{On: func(ev event.Event) {
		if ev.Kind == event.StepStarted {
			e.revoke()
		}
	}}
	rec, err := e.Engine.Build(t.Context(), req, events)
	if err == nil || rec.State != run.PartiallySucceeded || !strings.Contains(rec.Outputs[0].Error, "Not authorized to access the resource") {
		t.Fatalf("%s: %v\n%s", rec.State, err, events.Text())
	}
	if rec.Outputs[1].ArtifactURI == "" {
		t.Error("the other target was not published")
	}
	made, err := e.decisions(audit.Query{Run: rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	allowed, denied := 0, 0
	for _, d := range made {
		if d.Allowed {
			allowed++
		} else {
			denied++
		}
	}
	if allowed == 0 || denied != 3 {
		t.Errorf("%d allowed and %d denied in the audit of the run", allowed, denied)
	}
}

func TestAnIdentityDeletedAfterSubmission(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	all := e.scenarios()
	e.allow(buildtest.IdentityObject, all[0].rights[byIdentity])
	rec, served := e.submit(e.template(byIdentity, nil, all[0].target, nil))
	if served.State != build.StateSucceeded {
		t.Fatalf("%+v", served.Problem)
	}
	if _, err := e.Engine.Resources().Delete(t.Context(), e.PutIdentity(), resource.Condition{}); err != nil {
		t.Fatal(err)
	}
	if ended := e.mustRun(rec.ID); ended.State != run.Failed || !strings.HasPrefix(ended.Message, "/identity/userAssignedIdentities: The assigned managed identity cannot be used.") {
		t.Errorf("%s: %s", ended.State, ended.Message)
	}
	if _, served := e.submit(e.template(byIdentity, nil, all[0].target, nil)); served.State != build.StateFailed {
		t.Errorf("a template with an identity that is gone is %s", served.State)
	}
}

func TestUnregisteredTemplatesAreRefused(t *testing.T) {
	l := buildtest.New(t)
	l.PutIdentity()
	req := l.Request("first", buildtest.Template{})
	req.Create = false
	_, events, err := l.Build(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "The subscription is not registered for the resource type 'imageTemplates'") || !strings.Contains(err.Error(), "az provider register -n Microsoft.VirtualMachineImages") {
		t.Errorf("%v\n%s", err, events.Text())
	}
	if list := l.Everything(); len(list) != 1 { // the identity
		t.Errorf("something was made: %v", list)
	}
}

func TestAPrivateBlobWithoutTheRight(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	account := e.ID("Microsoft.Storage/storageAccounts/scripts")
	e.Put(account, "Microsoft.Storage/storageAccounts", buildtest.Object{"provisioningState": "Succeeded"})
	sub := e.template(byIdentity, nil, buildtest.Object{"type": "VHD", "runOutputName": "out"}, nil)
	sub.Template.Template.Customize[0].ScriptURI = "https://scripts.blob.core.windows.net/private/a.sh"
	report, err := e.Engine.Preflight(t.Context(), sub.Template.Template, buildtest.Group, "t", nil)
	if err != nil {
		t.Fatal(err)
	}
	const scope = "/blobServices/default/containers/private"
	if missing := report.Missing(); len(missing) != 1 || !missing[0].Data || missing[0].Scope != account+scope {
		t.Fatalf("missing %+v", missing)
	}
	e.Assign(buildtest.IdentityObject, rbac.StorageBlobDataReader, account+"/blobServices/default/containers/other")
	if report, err = e.Engine.Preflight(t.Context(), sub.Template.Template, buildtest.Group, "t", nil); err != nil || report.OK() {
		t.Errorf("the right on another container is enough: %v", err)
	}
	e.Assign(buildtest.IdentityObject, rbac.StorageBlobDataReader, account+scope)
	if report, err = e.Engine.Preflight(t.Context(), sub.Template.Template, buildtest.Group, "t", nil); err != nil || !report.OK() {
		t.Errorf("%v, %v", report.Err(), err)
	}
}

func TestABuildOfOnesOwnGrantsWhatItNeedsAndSaysSo(t *testing.T) {
	l := buildtest.New(t)
	req := l.Request("first", buildtest.Template{})
	req.Create = false
	if _, _, err := l.Build(t.Context(), req); err == nil {
		t.Fatal("a strict build needs no grants")
	}
	req.Create = true
	rec, events, err := l.Build(t.Context(), req)
	if err != nil || rec.State != run.Succeeded {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	for _, line := range []string{
		"registered Microsoft.VirtualMachineImages", "created identity " + l.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"),
		`granted "Azure Image Builder Service Image Creation Role" at ` + arm.GroupID(l.Engine.Subscription(), buildtest.Group),
		"in a cloud subscription the identity ",
	} {
		if !events.Has(event.Info, line) {
			t.Errorf("nothing says %q:\n%s", line, events.Text())
		}
	}
	// What was granted stays, and is enough for a strict build.
	req.Create = false
	if _, events, err = l.Build(t.Context(), req); err != nil || events.Has(event.Info, "granted") {
		t.Errorf("%v\n%s", err, events.Text())
	}
	// A submission that fails leaves no grants behind.
	before := len(l.Everything())
	bad := l.Request("second", buildtest.Template{
		Source:     buildtest.Object{"type": "ManagedImage", "imageId": arm.GroupID(l.Engine.Subscription(), "nowhere") + "/providers/Microsoft.Compute/images/none"},
		Distribute: []buildtest.Object{l.ToVHD("out")},
	})
	if _, _, err := l.Build(t.Context(), bad); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("%v", err)
	}
	if after := len(l.Everything()); after != before {
		t.Errorf("%d records before and %d after: %v", before, after, l.Everything())
	}
}
