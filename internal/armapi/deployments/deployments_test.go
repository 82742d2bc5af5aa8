package deployments_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/armapi/providers"
	"goldsmith/internal/blob"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	s   = armapitest.S
	rg  = s + "/resourceGroups/g"
	dep = rg + "/providers/Microsoft.Resources/deployments/"
	net = rg + "/providers/Microsoft.Network/"
)

// slow is a provider of things that take as long as the test wants.
type slow struct {
	mu      sync.Mutex
	begun   []string
	release chan struct{} // closed: nothing waits
}

func (w *slow) provider(store resource.Store) armapi.Provider {
	k := armapi.Kind{Store: store}
	t := k.Fill(armapi.Type{Name: "things", Versions: []string{"2024-01-01"}, Tracked: true})
	put := t.Put
	t.Put = func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		resp, err := put(ctx, r)
		if err != nil {
			return resp, err
		}
		w.mu.Lock()
		w.begun = append(w.begun, r.Name())
		w.mu.Unlock()
		op, err := r.Begin(ctx, "slow", r.ID, nil)
		return r.Accepted(201, resp.Body, op, "westus2", false), err
	}
	return armapi.Provider{Namespace: "Test.Slow", Types: []armapi.Type{t}, Works: map[string]armapi.Work{"slow": func(ctx context.Context, op armapi.Operation) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.release:
		}
		if strings.HasSuffix(op.Resource, "bad") {
			return arm.Errorf("ThingBroke", "the thing broke")
		}
		return nil
	}}}
}

func (w *slow) began(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, b := range w.begun {
		if b == name {
			n++
		}
	}
	return n
}

func open(t *testing.T, db *memory.DB, w *slow) *armapitest.Door {
	t.Helper()
	blobs := blob.NewMemory(nil)
	t.Cleanup(func() { _ = blobs.Close() })
	var d *armapitest.Door
	d = armapitest.Over(t, db, func(store resource.Store) []armapi.Provider {
		return append(providers.All(providers.Config{
			Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: store, Blobs: blobs,
			BlobEndpoint: func(account string) string { return "https://" + account + ".blob.local.test:8443/" },
			Call:         func(ctx context.Context, c armapi.Call) (armapi.Answer, error) { return d.API.Call(ctx, c) },
		}), w.provider(store))
	})
	return d
}

func free() *slow {
	w := &slow{release: make(chan struct{})}
	close(w.release)
	return w
}

// door has every provider and the group g; nothing in it is slow.
func door(t *testing.T) *armapitest.Door {
	t.Helper()
	d := open(t, memory.New(), free())
	d.Want(201, "PUT", rg, `{"location":"westus2","tags":{"team":"a"}}`)
	return d
}

// request is the body of a deployment with a template that lacks its head.
func request(template, more string) string {
	return `{"properties":{"mode":"Incremental",` + more + `template:{"$schema":"https://schema.test/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",` + template + `}}}`
}

const network = `"parameters":{"name":{"type":"string"},"prefix":{"type":"string","defaultValue":"10.0.0.0/16"}},
	// as az sends it
	"resources":[
		{"type":"Microsoft.Network/virtualNetworks/subnets","apiVersion":"2024-05-01","name":"[format('{0}/s2', parameters('name'))]","dependsOn":["[resourceId('Microsoft.Network/virtualNetworks', parameters('name'))]"],
			"properties":{"addressPrefix":"10.0.2.0/24"}},
		{"type":"Microsoft.Network/virtualNetworks","apiVersion":"2024-05-01","name":"[parameters('name')]","location":"[resourceGroup().location]","tags":"[resourceGroup().tags]",
			"properties":{"addressSpace":{"addressPrefixes":["[parameters('prefix')]"]}}},
		{"type":"Microsoft.Network/networkSecurityGroups","apiVersion":"2024-05-01","name":"off","location":"westus2","condition":false}
	],
	"outputs":{"id":{"type":"string","value":"[resourceId('Microsoft.Network/virtualNetworks', parameters('name'))]"},
		"space":{"type":"array","value":"[reference(parameters('name')).addressSpace.addressPrefixes]"}}`

func TestDeploy(t *testing.T) {
	d := door(t)
	body := request(network, `"parameters":{"name":{"value":"v1"}},`)
	v := d.Want(200, "POST", dep+"d1/validate", body)
	if v.Field("properties.provisioningState") != "Succeeded" || v.Field("properties.validatedResources.1.id") != net+"virtualNetworks/v1" || v.Field("properties.parameters.name.value") != "v1" {
		t.Error(v.Text)
	}
	d.Want(404, "HEAD", dep+"d1", "")
	a := d.Want(201, "PUT", dep+"d1", body)
	if a.Field("properties.provisioningState") != "Accepted" || !strings.Contains(a.Header.Get("Azure-AsyncOperation"), "/deployments/d1/operationStatuses/") || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%v %s", a.Header, a.Text)
	}
	if end := d.Follow(a); end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	d.Want(204, "HEAD", dep+"d1", "")
	a = d.Want(200, "GET", strings.Replace(dep, "resourceGroups", "resourcegroups", 1)+"d1", "")
	for path, want := range map[string]string{
		"name": "d1", "type": "Microsoft.Resources/deployments", "properties.provisioningState": "Succeeded", "properties.mode": "Incremental",
		"properties.outputs.id.value": net + "virtualNetworks/v1", "properties.outputs.space.value": `["10.0.0.0/16"]`, "properties.outputs.space.type": "Array",
		"properties.outputResources.0.id": net + "virtualNetworks/v1/subnets/s2", "properties.dependencies.0.dependsOn.0.resourceName": "v1",
		"properties.providers.0.namespace": "Microsoft.Network", "properties.parameters.prefix.type": "String",
	} {
		if got := a.Field(path); got != want {
			t.Errorf("%s is %q, want %q in %s", path, got, want, a.Text)
		}
	}
	made := d.Want(200, "GET", net+"virtualNetworks/v1/subnets/s2", "")
	if made.Field("properties.addressPrefix") != "10.0.2.0/24" || d.Want(200, "GET", net+"virtualNetworks/v1", "").Field("tags.team") != "a" {
		t.Error(made.Text)
	}
	d.Want(404, "GET", net+"networkSecurityGroups/off", "")

	// The operations, by both paths.
	for _, path := range []string{dep + "d1/operations", s + "/resourcegroups/g/deployments/d1/operations"} {
		ops := d.Want(200, "GET", path, "")
		if strings.Count(ops.Text, `"provisioningState":"Succeeded"`) != 2 || !strings.Contains(ops.Text, net+"virtualNetworks/v1/subnets/s2") {
			t.Error(ops.Text)
		}
		if one := d.Want(200, "GET", path+"/"+ops.Field("value.0.operationId"), ""); one.Field("properties.statusCode") != "Created" && one.Field("properties.statusCode") != "OK" {
			t.Error(one.Text)
		}
	}
	d.Want(404, "GET", dep+"d1/operations/none", "")
	if e := d.Want(200, "POST", dep+"d1/exportTemplate", ""); e.Field("template.contentVersion") != "1.0.0.0" {
		t.Error(e.Text)
	}

	// Again, which makes nothing new; then lists, and the end.
	again := d.Want(200, "PUT", dep+"d1", body)
	if end := d.Follow(again); end.Field("status") != "Succeeded" {
		t.Error(end.Text)
	}
	d.Follow(d.Want(201, "PUT", dep+"d2", request(`"resources":[]`, "")))
	if l := d.Want(200, "GET", dep[:len(dep)-1]+"?$top=1", ""); l.Field("value.0.name") != "d1" || l.Field("value.1") != "" {
		t.Error(l.Text)
	} else if next := d.Want(200, "GET", strings.TrimPrefix(l.Field("nextLink"), "https://door.test"), ""); next.Field("value.0.name") != "d2" || next.Field("nextLink") != "" {
		t.Error(next.Text)
	}
	if l := d.Want(200, "GET", dep[:len(dep)-1]+"?$filter=provisioningState eq 'Failed'", ""); l.Field("value") != "[]" {
		t.Error(l.Text)
	}
	if l := d.Want(200, "GET", s+"/providers/Microsoft.Resources/deployments", ""); l.Field("value") != "[]" {
		t.Error(l.Text)
	}
	if l := d.Want(200, "GET", rg+"/resources", ""); strings.Contains(l.Text, "deployments") {
		t.Error(l.Text)
	}
	d.Want(409, "POST", dep+"d1/cancel", "")
	d.Want(204, "DELETE", dep+"d1", "")
	d.Want(204, "DELETE", dep+"d1", "")
	if a := d.Want(404, "GET", dep+"d1", ""); a.Code() != "DeploymentNotFound" {
		t.Error(a.Text)
	}
	d.Want(200, "GET", net+"virtualNetworks/v1", "")
}

func TestRefused(t *testing.T) {
	d := door(t)
	for _, c := range []struct {
		body, code, says string
		status           int
	}{
		{`{}`, "InvalidRequestContent", "has no 'properties'", 400},
		{`{"properties":{"templateLink":{"uri":"https://x.test/t.json"}}}`, "InvalidRequestContent", "this service fetches no templates", 400},
		{`{"properties":{"mode":"Other","template":{}}}`, "InvalidRequestContent", "'Incremental' and 'Complete'", 400},
		{`{"properties":{"template":{}}}`, "InvalidTemplate", "$schema", 400},
		{request(network, ""), "InvalidTemplate", "'name'", 400},
		{request(`"resources":[{"type":"A.B/c","apiVersion":"2024-01-01","name":"n"}]`, ""), "InvalidTemplateDeployment", "tracking id", 400},
		{request(`"resources":[{"type":"Microsoft.KeyVault/vaults","apiVersion":"2024-01-01","name":"n"}]`, ""), "InvalidTemplateDeployment", "See inner errors", 400},
		{request(`"resources":[{"type":"Microsoft.Network/virtualNetworks","apiVersion":"2024-01-01","name":"[nope()]"}]`, ""), "InvalidTemplate", "'nope' is not valid", 400},
	} {
		for _, m := range []struct{ method, path string }{{"PUT", dep + "d"}, {"POST", dep + "d/validate"}, {"POST", dep + "d/whatIf"}} {
			if a := d.Do(m.method, m.path, c.body); a.Status != c.status || a.Code() != c.code || !strings.Contains(a.Text, c.says) {
				t.Errorf("%s %s: %d %s, want %s", m.method, c.body, a.Status, a.Text, c.says)
			}
		}
	}
	d.Want(404, "PUT", s+"/resourceGroups/none/providers/Microsoft.Resources/deployments/d", request(`"resources":[]`, ""))
	d.Want(404, "GET", dep+"d", "")
}

// A deployment does nothing that its caller may not do.
func TestRights(t *testing.T) {
	d := door(t)
	body := request(network, `"parameters":{"name":{"value":"v1"}},`)
	var mu sync.Mutex
	allowed := map[string]bool{"Microsoft.Resources/deployments/write": true, "Microsoft.Resources/deployments/validate/action": true, "Microsoft.Network/virtualNetworks/subnets/write": true}
	d.Allow = func(a armapi.Access) bool {
		mu.Lock()
		defer mu.Unlock()
		return allowed[a.Action]
	}
	for _, m := range []struct{ method, path string }{{"PUT", dep + "d"}, {"POST", dep + "d/validate"}} {
		a := d.As("some", m.method, m.path, body)
		if a.Status != 403 || a.Code() != "InvalidTemplateDeployment" || a.Field("error.details.0.code") != "AuthorizationFailed" ||
			!strings.Contains(a.Text, "Microsoft.Network/virtualNetworks/write") || a.Field("error.details.1") != "" {
			t.Errorf("%d %s", a.Status, a.Text)
		}
	}
	// The right to write is enough to make, and not to read an output.
	mu.Lock()
	allowed["Microsoft.Network/virtualNetworks/write"] = true
	mu.Unlock()
	a := d.As("some", "PUT", dep+"d", body)
	if a.Status != 201 {
		t.Fatal(a.Text)
	}
	end := d.Follow(a)
	if end.Field("status") != "Failed" || end.Field("error.code") != "DeploymentOutputEvaluationFailed" || !strings.Contains(end.Text, "Microsoft.Network/virtualNetworks/read") {
		t.Error(end.Text)
	}
	d.Want(200, "GET", net+"virtualNetworks/v1/subnets/s2", "")
}

func TestFailure(t *testing.T) {
	d := door(t)
	const thing = `{"type":"Test.Slow/things","apiVersion":"2024-01-01","location":"westus2","name":`
	end := d.Follow(d.Want(201, "PUT", dep+"d", request(`"resources":[`+thing+`"bad"},`+thing+`"after","dependsOn":["bad"]},`+thing+`"other"}]`, "")))
	if end.Field("status") != "Failed" || end.Field("error.code") != "DeploymentFailed" || end.Field("error.details.0.code") != "ThingBroke" ||
		end.Field("error.details.0.target") != rg+"/providers/Test.Slow/things/bad" || end.Field("error.details.1") != "" {
		t.Error(end.Text)
	}
	if a := d.Want(200, "GET", dep+"d", ""); a.Field("properties.provisioningState") != "Failed" || a.Field("properties.error.code") != "DeploymentFailed" {
		t.Error(a.Text)
	}
	ops := d.Want(200, "GET", dep+"d/operations", "")
	if !strings.Contains(ops.Text, "ThingBroke") || !strings.Contains(ops.Text, "things/other") || strings.Contains(ops.Text, "things/after") {
		t.Error(ops.Text)
	}
	d.Want(404, "GET", rg+"/providers/Test.Slow/things/after", "")
	d.Want(200, "GET", rg+"/providers/Test.Slow/things/other", "")
}

func TestNested(t *testing.T) {
	d := door(t)
	d.Want(201, "PUT", s+"/resourceGroups/h", `{"location":"eastus"}`)
	const inner = `"template":{"$schema":"https://schema.test/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0","parameters":{"n":{"type":"string"}},
		"resources":[{"type":"Microsoft.Network/networkSecurityGroups","apiVersion":"2024-05-01","name":"[parameters('n')]","location":"[resourceGroup().location]"}],
		"outputs":{"where":{"type":"string","value":"[resourceGroup().location]"}}}`
	end := d.Follow(d.Want(201, "PUT", dep+"outer", request(`"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"inner","resourceGroup":"h",
		"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"parameters":{"n":{"value":"nsg1"}},`+inner+`}}],
		"outputs":{"where":{"type":"string","value":"[reference('inner').outputs.where.value]"}}`, "")))
	if end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	if a := d.Want(200, "GET", dep+"outer", ""); a.Field("properties.outputs.where.value") != "eastus" {
		t.Error(a.Text)
	}
	d.Want(200, "GET", s+"/resourceGroups/h/providers/Microsoft.Network/networkSecurityGroups/nsg1", "")
}

func TestSubscription(t *testing.T) {
	d := door(t)
	const path = s + "/providers/Microsoft.Resources/deployments/all"
	body := `{"location":"westus2",` + request(`"resources":[{"type":"Microsoft.Resources/resourceGroups","apiVersion":"2024-11-01","name":"made","location":"[deployment().location]"},
		{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"in","resourceGroup":"made","dependsOn":["[subscriptionResourceId('Microsoft.Resources/resourceGroups', 'made')]"],
			"properties":{"mode":"Incremental","template":{"$schema":"https://schema.test/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0","resources":[]}}}]`, "")[1:]
	if end := d.Follow(d.Want(201, "PUT", path, body)); end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	d.Want(200, "GET", s+"/resourceGroups/made", "")
	if a := d.Want(200, "GET", path, ""); a.Field("location") != "westus2" {
		t.Error(a.Text)
	}
	if l := d.Want(200, "GET", s+"/providers/Microsoft.Resources/deployments", ""); l.Field("value.0.name") != "all" || l.Field("value.1") != "" {
		t.Error(l.Text)
	}
	d.Want(400, "PUT", path, request(`"resources":[]`, ""))
}

// Values of secure parameters reach the resource, and no answer and no record.
func TestSecrets(t *testing.T) {
	db := memory.New()
	d := open(t, db, free())
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	end := d.Follow(d.Want(201, "PUT", dep+"d", request(`"parameters":{"k":{"type":"securestring"}},"resources":[{"type":"Test.Slow/things","apiVersion":"2024-01-01","name":"t","location":"westus2",
		"tags":{"length":"[string(length(parameters('k')))]"}}],"outputs":{"k":{"type":"securestring","value":"[parameters('k')]"}}`, `"parameters":{"k":{"value":"hushhush"}},`)))
	if end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	if a := d.Want(200, "GET", rg+"/providers/Test.Slow/things/t", ""); a.Field("tags.length") != "8" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "GET", dep+"d", ""); a.Field("properties.outputs.k.type") != "SecureString" || a.Field("properties.parameters.k.type") != "SecureString" {
		t.Error(a.Text)
	}
	records, _, err := db.Resources().List(t.Context(), resource.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range records {
		if raw, err := json.Marshal(rec); err != nil || strings.Contains(string(raw), "hush") {
			t.Errorf("%s holds the secret: %v", rec.ID, err)
		}
	}
}
