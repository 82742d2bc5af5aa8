package deployments_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/armapi"
)

// changes are the changes of an answer by the end of their ids.
func changes(a interface{ Field(string) string }) map[string]string {
	out := map[string]string{}
	for i := range 9 {
		n := "properties.changes." + string(rune('0'+i))
		if id := a.Field(n + ".resourceId"); id != "" {
			out[id[strings.LastIndexByte(id, '/')+1:]] = a.Field(n + ".changeType")
		}
	}
	return out
}

func TestWhatIf(t *testing.T) {
	d := door(t)
	params := func(name, prefix string) string {
		return `"parameters":{"name":{"value":"` + name + `"},"prefix":{"value":"` + prefix + `"}},`
	}
	a := d.Want(200, "POST", dep+"d/whatIf", request(network, params("v1", "10.0.0.0/16")))
	if diff := cmp.Diff(map[string]string{"s2": "Create", "v1": "Create"}, changes(a)); diff != "" || a.Field("status") != "Succeeded" {
		t.Error(diff)
	}
	if a.Field("properties.changes.1.after.location") != "westus2" || a.Field("properties.changes.1.before") != "" {
		t.Error(a.Text)
	}
	d.Want(404, "GET", net+"virtualNetworks/v1", "")
	d.Follow(d.Want(201, "PUT", dep+"d", request(network, params("v1", "10.0.0.0/16"))))
	d.Want(201, "PUT", net+"networkSecurityGroups/alien", `{"location":"westus2"}`)
	a = d.Want(200, "POST", dep+"d/whatIf", request(network, params("v1", "10.0.0.0/16")))
	if diff := cmp.Diff(map[string]string{"s2": "NoChange", "v1": "NoChange", "alien": "Ignore"}, changes(a)); diff != "" {
		t.Error(diff, a.Text)
	}
	d.Want(200, "PATCH", net+"virtualNetworks/v1", `{"tags":{"team":"b","more":"c"}}`)
	a = d.Want(200, "POST", dep+"d/whatIf", request(network, params("v1", "10.0.0.0/15")))
	if diff := cmp.Diff(map[string]string{"s2": "NoChange", "v1": "Modify", "alien": "Ignore"}, changes(a)); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]string{
		"0.path": "tags.team", "0.propertyChangeType": "Modify", "0.before": "b", "0.after": "a",
		"1.path": "tags.more", "1.propertyChangeType": "Delete",
		"2.path": "properties.addressSpace.addressPrefixes", "2.propertyChangeType": "Array", "2.children.0.after": "10.0.0.0/15",
	} {
		if got := a.Field("properties.changes.1.delta." + path); got != want {
			t.Errorf("%s: %q, want %q in %s", path, got, want, a.Text)
		}
	}
	short := strings.Replace(request(network, params("v1", "10.0.0.0/15")), `"mode"`, `"whatIfSettings":{"resultFormat":"ResourceIdOnly"},"mode"`, 1)
	a = d.Want(200, "POST", dep+"d/whatIf", short)
	if diff := cmp.Diff(map[string]string{"s2": "Deploy", "v1": "Deploy", "alien": "Ignore"}, changes(a)); diff != "" || strings.Contains(a.Text, "10.0") {
		t.Error(diff, a.Text)
	}
	d.Want(400, "POST", dep+"d/whatIf", strings.Replace(short, "ResourceIdOnly", "Other", 1))

	// What the caller may not read is said to be so.
	d.Allow = func(q armapi.Access) bool { return !strings.HasSuffix(q.Action, "/read") }
	a = d.As("some", "POST", dep+"d/whatIf", request(network, params("v1", "10.0.0.0/16")))
	if diff := cmp.Diff(map[string]string{"s2": "Unsupported", "v1": "Unsupported"}, changes(a)); diff != "" {
		t.Error(diff, a.Text)
	}
}

// The mode Complete deletes what the template lacks, with the caller's rights.
func TestComplete(t *testing.T) {
	d := door(t)
	d.Want(201, "PUT", net+"networkSecurityGroups/used", `{"location":"westus2"}`)
	d.Want(201, "PUT", net+"virtualNetworks/old", `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"a","properties":{"addressPrefix":"10.0.0.0/24","networkSecurityGroup":{"id":"`+net+`networkSecurityGroups/used"}}}]}}`)
	complete := strings.Replace(request(network, `"parameters":{"name":{"value":"v1"}},`), "Incremental", "Complete", 1)
	a := d.Want(200, "POST", dep+"d/whatIf", complete)
	if diff := cmp.Diff(map[string]string{"s2": "Create", "v1": "Create", "old": "Delete", "used": "Delete"}, changes(a)); diff != "" {
		t.Error(diff)
	}
	d.Allow = func(q armapi.Access) bool { return !strings.HasSuffix(q.Action, "/delete") }
	end := d.Follow(d.As("some", "PUT", dep+"d", complete))
	if end.Field("status") != "Failed" || !strings.Contains(end.Text, "virtualNetworks/delete") {
		t.Error(end.Text)
	}
	if end := d.Follow(d.Want(200, "PUT", dep+"d", complete)); end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	d.Want(404, "GET", net+"virtualNetworks/old", "")
	d.Want(404, "GET", net+"networkSecurityGroups/used", "")
	d.Want(200, "GET", net+"virtualNetworks/v1/subnets/s2", "")
	d.Want(200, "GET", dep+"d", "")
}

// What would be made is shown without what is secret in it.
func TestWhatIfHidesSecrets(t *testing.T) {
	d := door(t)
	a := d.Want(200, "POST", dep+"d/whatIf", request(`"parameters":{"k":{"type":"securestring"},"o":{"type":"secureObject"}},
		"resources":[{"type":"Test.Slow/things","apiVersion":"2024-01-01","name":"t","location":"westus2",
		"properties":{"login":"[format('user:{0}', parameters('k'))]","pin":"[parameters('o').pin]","length":"[length(parameters('k'))]"}}]`,
		`"parameters":{"k":{"value":"hushhush"},"o":{"value":{"pin":"17"}}},`))
	if a.Field("properties.changes.0.after.properties.login") != "user:*******" || a.Field("properties.changes.0.after.properties.pin") != "*******" ||
		a.Field("properties.changes.0.after.properties.length") != "8" || strings.Contains(a.Text, "hush") {
		t.Error(a.Text)
	}
}

// Nested deployments are looked into, as far as what they are given is known.
func TestWhatIfNested(t *testing.T) {
	d := door(t)
	inner := func(name, value string) string {
		body := request(`"parameters":{"n":{"type":"int"}},"resources":[{"type":"Test.Slow/things","apiVersion":"2024-01-01","name":"[format('`+name+`{0}', parameters('n'))]","location":"[resourceGroup().location]"}]`,
			`"expressionEvaluationOptions":{"scope":"inner"},"parameters":{"n":{"value":`+value+`}},`)
		return `{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"` + name + `","resourceGroup":"` + name + `s",` + body[1:len(body)-1] + `}`
	}
	a := d.Want(200, "POST", dep+"d/whatIf", request(`"resources":[`+inner("known", "1")+`,`+inner("open", `"[reference('known').outputs.x.value]"`)+`,
		{"type":"Microsoft.Network/networkSecurityGroups","apiVersion":"2024-05-01","name":"nsg","location":"westus2"}]`, ""))
	if diff := cmp.Diff(map[string]string{"known1": "Create", "open": "Unsupported", "nsg": "Create"}, changes(a)); diff != "" {
		t.Error(diff, a.Text)
	}
	if id := a.Field("properties.changes.0.resourceId"); id != s+"/resourceGroups/knowns/providers/Test.Slow/things/known1" {
		t.Error(id)
	}
}
