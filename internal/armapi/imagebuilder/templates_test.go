package imagebuilder_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build/buildtest"
)

type object = map[string]any

// body is a template for the lab's base.
func body(d *imagebuildertest.Door, name string, more object) object {
	properties := object{
		"source":     object{"type": "PlatformImage", "publisher": "Lab", "offer": "linux", "sku": "gen2", "version": "latest"},
		"customize":  []any{object{"type": "Shell", "name": "hello", "inline": []string{"echo hello"}}},
		"distribute": []any{object{"type": "ManagedImage", "runOutputName": name + "-out", "imageId": d.ID("Microsoft.Compute/images/" + name), "location": buildtest.Location}},
	}
	for k, v := range more {
		properties[k] = v
	}
	return object{
		"location": buildtest.Location, "tags": object{},
		"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{
			d.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"): object{},
		}},
		"properties": properties,
	}
}

// made makes a template and waits until it is there.
func made(d *imagebuildertest.Door, name, version string, more object) imagebuildertest.Answer {
	d.Helper()
	a := d.Want(http.StatusCreated, "PUT", d.Template(name, version), body(d, name, more))
	if op := d.Follow(a); op.Field("status") != armapi.Succeeded {
		d.Fatalf("making %s: %s", name, op.Text)
	}
	return d.Want(http.StatusOK, "GET", d.Template(name, version), nil)
}

func action(d *imagebuildertest.Door, name, verb, version string) string {
	return strings.Replace(d.Template(name, version), "?", "/"+verb+"?", 1)
}

func TestLifeOfATemplate(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version = "2022-07-01"
	a := d.Want(http.StatusCreated, "PUT", d.Template("first", version), body(d, "first", nil))
	op := a.Header.Get("Azure-AsyncOperation")
	want := "/subscriptions/" + d.Engine.Subscription() + "/providers/Microsoft.VirtualMachineImages/locations/westus2/operations/" + a.Header.Get("x-ms-request-id") + "?api-version=" + version
	if !strings.HasSuffix(op, want) || a.Header.Get("Location") != "" || a.Header.Get("Retry-After") != "1" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers of the answer to PUT: %v, want the operation %s", a.Header, want)
	}
	if got := a.Field("properties.provisioningState"); got != "Creating" {
		t.Errorf("provisioning state %s", got)
	}
	if got := a.Field("id"); !strings.Contains(got, "/resourcegroups/images/") {
		t.Errorf("id %s", got)
	}
	if got := d.Follow(a); got.Field("status") != "Succeeded" || got.Field("name") != strings.ToUpper(a.Header.Get("x-ms-request-id")) || got.Field("endTime") == "" {
		t.Errorf("the operation: %s", got.Text)
	}
	got := d.Want(http.StatusOK, "GET", d.Template("first", version), nil)
	identity := got.Field("identity.userAssignedIdentities")
	if got.Field("properties.provisioningState") != "Succeeded" || !strings.HasPrefix(got.Field("properties.source.exactVersion"), "1.0.") ||
		!strings.Contains(got.Field("properties.exactStagingResourceGroup"), "/resourceGroups/IT_images_first_") ||
		!strings.Contains(identity, `"principalId":"44444444-`) || got.Field("properties.lastRunStatus") != "" {
		t.Errorf("the template: %s", got.Text)
	}

	run := d.Want(http.StatusAccepted, "POST", action(d, "first", "Run", version), nil)
	if run.Text != "" || run.Header.Get("Azure-AsyncOperation") == "" || run.Header.Get("Location") != run.Header.Get("Azure-AsyncOperation") {
		t.Errorf("the answer to run: %v %q", run.Header, run.Text)
	}
	if got := d.Follow(run); got.Field("status") != "Succeeded" {
		t.Fatalf("the run: %s", got.Text)
	}
	got = d.Want(http.StatusOK, "GET", d.Template("first", version), nil)
	if got.Field("properties.lastRunStatus.runState") != "Succeeded" || got.Field("properties.lastRunStatus.runSubState") != "" || got.Field("properties.lastRunStatus.message") != "" {
		t.Errorf("lastRunStatus: %s", got.Field("properties.lastRunStatus"))
	}
	output := d.Want(http.StatusOK, "GET", action(d, "first", "runOutputs/first-out", version), nil)
	if output.Field("properties.artifactId") != d.ID("Microsoft.Compute/images/first") || output.Field("type") != "Microsoft.VirtualMachineImages/imageTemplates/runOutputs" {
		t.Errorf("the output: %s", output.Text)
	}
	if list := d.Want(http.StatusOK, "GET", action(d, "first", "runOutputs", version), nil); strings.Count(list.Text, "artifactId") != 1 {
		t.Errorf("the outputs: %s", list.Text)
	}

	gone := d.Want(http.StatusAccepted, "DELETE", d.Template("first", version), nil)
	if got := d.Follow(gone); got.Field("status") != "Succeeded" {
		t.Errorf("the delete: %s", got.Text)
	}
	if a := d.Do("GET", d.Template("first", version), nil); a.Status != http.StatusNotFound || a.Field("error.code") != "ResourceNotFound" {
		t.Errorf("the deleted template: %d %s", a.Status, a.Text)
	}
	d.Want(http.StatusNoContent, "DELETE", d.Template("first", version), nil)
}

func TestGuards(t *testing.T) {
	d := imagebuildertest.New(t)
	const version = "2024-02-01"
	d.Want(http.StatusCreated, "PUT", d.Template("a", version), body(d, "a", nil))
	// Nothing provisions it yet.
	refused := func(status int, code, text, method, path string, in any) {
		t.Helper()
		a := d.Do(method, path, in)
		if a.Status != status || a.Field("error.code") != code || !strings.Contains(a.Field("error.message"), text) {
			t.Errorf("%s %s: %d %s, want %d %s %q", method, path, a.Status, a.Text, status, code, text)
		}
	}
	const notAllowed = "OperationNotAllowed"
	refused(405, notAllowed, "Operation Microsoft.VirtualMachineImages/imageTemplates/run is not allowed in provisioning state: creating", "POST", action(d, "a", "run", version), nil)
	refused(405, notAllowed, "imageTemplates/delete is not allowed in provisioning state: creating", "DELETE", d.Template("a", version), nil)
	refused(405, notAllowed, "imageTemplates/cancel is not allowed", "POST", action(d, "a", "cancel", version), nil)
	refused(405, notAllowed, "imageTemplates/write is not allowed", "PATCH", d.Template("a", version), object{"tags": object{"x": "y"}})
	refused(409, "Conflict", "Update/Upgrade of image templates is currently not supported.", "PUT", d.Template("a", version), body(d, "b", nil))
	again := d.Want(http.StatusOK, "PUT", d.Template("a", version), body(d, "a", nil))
	d.Serve(1)
	if op := d.Follow(again); op.Field("status") != "Succeeded" {
		t.Errorf("the operation of the first PUT: %s", op.Text)
	}
	if a := d.Want(http.StatusOK, "PUT", d.Template("a", version), body(d, "a", nil)); a.Header.Get("Azure-AsyncOperation") != "" || a.Field("properties.provisioningState") != "Succeeded" {
		t.Errorf("an identical PUT: %v %s", a.Header, a.Text)
	}
	refused(404, "ResourceNotFound", "was not found", "POST", action(d, "none", "run", version), nil)
	refused(404, "ResourceNotFound", "was not found", "GET", action(d, "none", "runOutputs", version), nil)
	refused(400, "MissingApiVersionParameter", "", "GET", strings.Split(d.Template("a", ""), "?")[0], nil)
	refused(400, "ValidationFailed", "Validation failed: 'ImageTemplate': Missing field 'identity'", "PUT", d.Template("c", version), object{"location": "westus2", "properties": body(d, "c", nil)["properties"]})
	refused(400, "InvalidRequestContent", "", "PUT", d.Template("c", version), "{")
	foreign := body(d, "c", nil)
	foreign["identity"] = object{"type": "UserAssigned", "userAssignedIdentities": object{
		"/subscriptions/99999999-9999-9999-9999-999999999999/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i": object{}}}
	refused(403, "LinkedAuthorizationFailed", "not authorized to access linked subscription", "PUT", d.Template("c", version), foreign)
	refused(404, "ResourceGroupNotFound", "could not be found", "PUT", strings.Replace(d.Template("c", version), "/images/", "/nowhere/", 1), body(d, "c", nil))
}

func TestUpdateInPlace(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version = "2023-07-01"
	made(d, "a", version, nil)
	changed := object{"customize": []any{object{"type": "Shell", "name": "other", "inline": []string{"echo other"}}}}
	d.Want(http.StatusConflict, "PUT", d.Template("a", version), body(d, "a", changed))
	a := d.Want(http.StatusOK, "PUT", d.Template("a", version), body(d, "a", changed), imagebuilder.HeaderUpdate, imagebuilder.UpdateInPlace)
	if a.Field("properties.provisioningState") != "Updating" || d.Follow(a).Field("status") != "Succeeded" {
		t.Errorf("an update by header: %s", a.Text)
	}
	tagged := body(d, "a", nil)
	tagged["tags"] = object{imagebuilder.TagUpdate: imagebuilder.UpdateInPlace}
	a = d.Want(http.StatusOK, "PUT", d.Template("a", version), tagged)
	if d.Follow(a).Field("status") != "Succeeded" {
		t.Errorf("an update by tag: %s", a.Text)
	}
	moved := body(d, "a", nil)
	moved["location"] = "northeurope"
	d.Want(http.StatusConflict, "PUT", d.Template("a", version), moved, imagebuilder.HeaderUpdate, imagebuilder.UpdateInPlace)
}

func TestPatch(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	second := d.PutIdentity("second")
	made(d, "a", "2022-07-01", nil)
	first := d.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder")
	target := func(name string) object {
		return object{"type": "ManagedImage", "runOutputName": name, "imageId": d.ID("Microsoft.Compute/images/" + name), "location": buildtest.Location}
	}
	for _, c := range []struct {
		name, version string
		in            object
		status        int
		says          string // of the error, or a part of the template afterwards
	}{
		{"tags", "2022-07-01", object{"tags": object{"123": "abc"}}, 200, `"123": "abc"`},
		{"tags in the first version", "2018-02-01-preview", object{"tags": object{"old": "yes"}}, 200, `"old": "yes"`},
		{"identity", "2022-02-14", object{"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{first: nil, strings.ToLower(second): object{}}}}, 202, strings.ToLower(second)},
		{"no identity", "2022-02-14", object{"identity": object{"type": "None"}}, 202, `"type": "None"`},
		{"distribute too early", "2022-07-01", object{"properties": object{"distribute": []any{target("a-out")}}}, 400, "from API version 2023-07-01 on"},
		{"distribute", "2023-07-01", object{"properties": object{"distribute": []any{target("a-out"), target("more")}}}, 202, `"runOutputName": "more"`},
		{"distribute without one", "2023-07-01", object{"properties": object{"distribute": []any{target("more")}}}, 400, "Distribute target with Runoutput name a-out not found in the update request"},
		{"vmProfile", "2024-02-01", object{"properties": object{"vmProfile": object{"osDiskSizeGB": 40}}}, 202, `"osDiskSizeGB": 40`},
		{"source", "2024-02-01", object{"properties": object{"source": object{}}}, 400, "never changes"},
		{"location", "2024-02-01", object{"location": "here"}, 400, "never changes"},
	} {
		a := d.Do("PATCH", d.Template("a", c.version), c.in)
		if a.Status != c.status {
			t.Errorf("%s: %d %s", c.name, a.Status, a.Text)
			continue
		}
		text := a.Text
		if a.Status == http.StatusAccepted {
			if a.Text != "" || a.Header.Get("Location") == "" {
				t.Errorf("%s: %v %s", c.name, a.Header, a.Text)
			}
			if op := d.Follow(a); op.Field("status") != "Succeeded" {
				t.Errorf("%s: %s", c.name, op.Text)
			}
			text = d.Want(http.StatusOK, "GET", d.Template("a", c.version), nil).Text
		}
		if !strings.Contains(text, c.says) {
			t.Errorf("%s: %q is not in %s", c.name, c.says, text)
		}
	}
}

// Every version shows a template in its own words, whatever it was made in.
func TestVersions(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	script := d.File("one.sh", "echo one\n")
	_ = script
	a := d.Want(http.StatusCreated, "PUT", d.Template("old", "2018-02-01-preview"), object{
		"location": buildtest.Location,
		"properties": object{
			"source":     object{"type": "platformImage", "publisher": "Lab", "offer": "linux", "sku": "gen2", "version": "latest"},
			"distribute": []any{object{"type": "managedImage", "runOutputName": "out", "imageId": d.ID("Microsoft.Compute/images/old"), "location": buildtest.Location}},
		},
	})
	if op := d.Follow(a); op.Field("status") != "Succeeded" {
		t.Fatalf("%s", op.Text)
	}
	got := d.Want(http.StatusOK, "GET", d.Template("old", "2018-02-01-preview"), nil)
	if !strings.Contains(got.Text, `"type": "managedImage"`) || !strings.HasPrefix(got.Field("properties.source.version"), "latest (1.0") || got.Field("properties.buildTimeoutInMinutes") != "" {
		t.Errorf("in its own version: %s", got.Text)
	}
	got = d.Want(http.StatusOK, "GET", d.Template("old", "2025-10-01"), nil)
	if !strings.Contains(got.Text, `"type": "ManagedImage"`) || got.Field("properties.source.version") != "latest" || got.Field("properties.buildTimeoutInMinutes") != "0" {
		t.Errorf("in the newest version: %s", got.Text)
	}
	if a := d.Do("PUT", d.Template("x", "2020-02-14"), object{"location": "westus2"}); a.Status != 400 || a.Field("code") != "ValidationFailed" {
		t.Errorf("an error of 2020-02-14 is bare: %d %s", a.Status, a.Text)
	}
	if a := d.Do("PUT", d.Template("a.b", "2019-02-01-preview"), object{}); a.Status != 400 || a.Field("error.code") != "InvalidResourceName" {
		t.Errorf("a name with a dot: %d %s", a.Status, a.Text)
	}
	if a := d.Do("GET", action(d, "old", "triggers", "2022-02-14"), nil); a.Status != 404 {
		t.Errorf("triggers before there were any: %d %s", a.Status, a.Text)
	}
	if a := d.Do("POST", action(d, "old", "cancel", "2019-05-01-preview"), nil); a.Status != 404 {
		t.Errorf("cancel before there was one: %d %s", a.Status, a.Text)
	}
}

func TestProvisioningError(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	a := d.Want(http.StatusCreated, "PUT", d.Template("a", "2022-07-01"), body(d, "a", object{
		"source": object{"type": "PlatformImage", "publisher": "Nobody", "offer": "x", "sku": "y", "version": "latest"}}))
	op := d.Follow(a)
	if op.Field("status") != "Failed" || op.Field("error.message") == "" {
		t.Errorf("the operation: %s", op.Text)
	}
	got := d.Want(http.StatusOK, "GET", d.Template("a", "2022-07-01"), nil)
	if got.Field("properties.provisioningState") != "Failed" || got.Field("properties.provisioningError.provisioningErrorCode") != "BadPIRSource" ||
		!strings.Contains(got.Field("properties.exactStagingResourceGroup"), "/IT_") {
		t.Errorf("the template: %s", got.Text)
	}
}

func TestFailedRun(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	made(d, "a", "2022-07-01", object{"customize": []any{object{"type": "Shell", "name": "break", "inline": []string{"exit 3"}}}})
	op := d.Follow(d.Want(http.StatusAccepted, "POST", action(d, "a", "run", "2022-07-01"), nil))
	if op.Field("status") != "Failed" || op.Field("error.code") != "PackerBuildFailed" || !strings.Contains(op.Field("error.message"), `"break"`) {
		t.Errorf("the operation: %s", op.Text)
	}
	got := d.Want(http.StatusOK, "GET", d.Template("a", "2022-07-01"), nil)
	if message := got.Field("properties.lastRunStatus.message"); !strings.Contains(message, `"break"`) || !strings.Contains(message, "customization.log") {
		t.Errorf("lastRunStatus.message: %s", message)
	}
}

// What this engine cannot build is accepted, and its run is refused.
func TestNotExecutable(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	made(d, "a", "2022-07-01", object{"optimize": object{"vmBoot": object{"state": "Enabled"}}})
	a := d.Want(http.StatusBadRequest, "POST", action(d, "a", "run", "2022-07-01"), nil)
	if a.Field("error.code") != "NotSupported" || !strings.Contains(a.Text, "optimize") {
		t.Errorf("%s", a.Text)
	}
}

func TestLists(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	for _, name := range []string{"a", "b", "c"} {
		made(d, name, "2022-07-01", nil)
	}
	type page struct {
		Value    []struct{ Name string }
		NextLink string
	}
	names := func(p page) []string {
		var all []string
		for _, v := range p.Value {
			all = append(all, v.Name)
		}
		return all
	}
	base := "/subscriptions/" + d.Engine.Subscription()
	const rest = "/providers/Microsoft.VirtualMachineImages//imageTemplates?api-version=2022-07-01"
	for _, path := range []string{base + rest, base + "/resourcegroups/IMAGES" + rest} {
		var p page
		d.Decode(d.Want(http.StatusOK, "GET", path, nil), &p)
		if diff := cmp.Diff([]string{"a", "b", "c"}, names(p)); diff != "" || p.NextLink != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	var p page
	d.Decode(d.Want(http.StatusOK, "GET", base+rest+"&$top=2", nil), &p)
	var second page
	d.Decode(d.Want(http.StatusOK, "GET", p.NextLink, nil), &second)
	if diff := cmp.Diff([]string{"c"}, names(second)); diff != "" || len(p.Value) != 2 {
		t.Errorf("the second page (-want +got):\n%s", diff)
	}
	var ops struct{ Value []struct{ Name string } }
	d.Decode(d.Want(http.StatusOK, "GET", "/providers/Microsoft.VirtualMachineImages/operations?api-version=2022-07-01", nil), &ops)
	if len(ops.Value) != 13 {
		t.Errorf("%d operations", len(ops.Value))
	}
}
