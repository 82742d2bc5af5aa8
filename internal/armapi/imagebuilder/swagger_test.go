//go:build conformance

package imagebuilder_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/conformance"
	"goldsmith/internal/imagetemplate"
)

// Every answer of every operation is as its API version defines it.
func TestPublishedDefinitions(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	for i, version := range imagetemplate.Versions() {
		t.Run(version, func(t *testing.T) {
			p := readPublished(t, version)
			name := fmt.Sprintf("t%d", i)
			ask := func(what, method, path string, in any) imagebuildertest.Answer {
				t.Helper()
				a := d.Do(method, path, in)
				p.check(what, method, path, a.Status, a.Text)
				return a
			}
			wanted := func(a imagebuildertest.Answer, status int) imagebuildertest.Answer {
				t.Helper()
				if a.Status != status {
					t.Fatalf("status %d, want %d: %s", a.Status, status, a.Text)
				}
				return a
			}
			at := d.Template(name, version)
			in := body(d, name, nil)
			properties := in["properties"].(object)
			if version == "2018-02-01-preview" {
				delete(in, "identity")
				delete(properties, "customize")
				properties["distribute"].([]any)[0].(object)["type"] = "managedImage"
			}
			if version == "2019-02-01-preview" {
				delete(in, "identity")
			}
			made := wanted(ask("create", "PUT", at, in), http.StatusCreated)
			if op := d.Follow(made); op.Field("status") != "Succeeded" {
				t.Fatal(op.Text)
			}
			wanted(ask("create again", "PUT", at, in), http.StatusOK)
			wanted(ask("get", "GET", at, nil), http.StatusOK)
			wanted(ask("update", "PATCH", at, object{"tags": object{"a": "b"}}), http.StatusOK)
			if version >= "2019-05-01-preview" && version != "2019-02-01-preview" {
				if op := d.Follow(wanted(ask("update the identity", "PATCH", at, object{"identity": in["identity"]}), http.StatusAccepted)); op.Field("status") != "Succeeded" {
					t.Error(op.Text)
				}
			}
			if op := d.Follow(wanted(ask("run", "POST", action(d, name, "run", version), nil), http.StatusAccepted)); op.Field("status") != "Succeeded" {
				t.Fatal(op.Text)
			}
			wanted(ask("get after a run", "GET", at, nil), http.StatusOK)
			wanted(ask("outputs", "GET", action(d, name, "runOutputs", version), nil), http.StatusOK)
			wanted(ask("output", "GET", action(d, name, "runOutputs/"+name+"-out", version), nil), http.StatusOK)
			group := strings.Replace(at, "/"+name, "", 1)
			wanted(ask("list of a group", "GET", group, nil), http.StatusOK)
			wanted(ask("list", "GET", strings.Replace(group, "/resourceGroups/"+buildtest.Group, "", 1), nil), http.StatusOK)
			wanted(ask("operations", "GET", "/providers/Microsoft.VirtualMachineImages/operations?api-version="+version, nil), http.StatusOK)
			if version >= "2020" {
				wanted(ask("cancel without a run", "POST", action(d, name, "cancel", version), nil), http.StatusMethodNotAllowed)
			}
			wanted(ask("a wrong template", "PUT", d.Template("wrong", version), object{"location": "x", "properties": object{}}), http.StatusBadRequest)
			if version >= "2022-07-01" {
				tr := action(d, name, "triggers/t", version)
				d.Follow(wanted(ask("create a trigger", "PUT", tr, sourceImage), http.StatusCreated))
				wanted(ask("create it again", "PUT", tr, sourceImage), http.StatusOK)
				wanted(ask("get the trigger", "GET", tr, nil), http.StatusOK)
				wanted(ask("list triggers", "GET", action(d, name, "triggers", version), nil), http.StatusOK)
				d.Follow(wanted(ask("delete the trigger", "DELETE", tr, nil), http.StatusAccepted))
				wanted(ask("delete it again", "DELETE", tr, nil), http.StatusNoContent)
			}
			d.Follow(wanted(ask("delete", "DELETE", at, nil), http.StatusAccepted))
			wanted(ask("delete again", "DELETE", at, nil), http.StatusNoContent)
		})
	}
}

// The published examples are answered with the statuses that they show.
func TestPublishedExamples(t *testing.T) {
	files := conformance.Glob(t, "templates", "api-examples", "*", "*.json")
	if len(files) < 60 {
		t.Fatalf("%d examples", len(files))
	}
	d := imagebuildertest.New(t)
	d.Serve(1)
	d.PutNamedGroup("myResourceGroup", "westus")
	for i, file := range files {
		version, name := filepath.Base(filepath.Dir(file)), strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(version+"/"+name, func(t *testing.T) {
			text := strings.NewReplacer(
				"{subscription-id}", d.Engine.Subscription(), "00000000-0000-0000-0000-000000000000", d.Engine.Subscription(),
			).Replace(string(conformance.Read(t, file)))
			var x struct {
				Parameters struct{ Parameters json.RawMessage }
				Responses  map[string]json.RawMessage
			}
			if err := json.Unmarshal([]byte(text), &x); err != nil {
				t.Fatal(err)
			}
			p := readPublished(t, version)
			template := fmt.Sprintf("e%d", i)
			at := strings.Replace(d.Template(template, version), "/resourceGroups/"+buildtest.Group, "/resourceGroups/myResourceGroup", 1)
			below := func(rest string) string { return strings.Replace(at, "?", "/"+rest+"?", 1) }
			method, path := exampleRequest(name, at, below)
			if !strings.HasPrefix(name, "CreateImageTemplate") {
				d.Follow(d.Want(http.StatusCreated, "PUT", strings.Replace(at, version, "2022-07-01", 1), body(d, template, nil)))
			}
			if name == "GetRunOutput" {
				d.Follow(d.Want(http.StatusAccepted, "POST", below("run"), nil))
				path = below("runOutputs/" + template + "-out")
			}
			if name == "GetTrigger" || name == "DeleteTrigger" {
				d.Follow(d.Want(http.StatusCreated, "PUT", below("triggers/source"), sourceImage))
			}
			var in any
			if len(x.Parameters.Parameters) > 0 {
				in = string(x.Parameters.Parameters)
			}
			a := d.Do(method, path, in)
			if _, ok := x.Responses[fmt.Sprint(a.Status)]; !ok && !expected(name, a.Status) {
				t.Errorf("status %d is none of the example's: %s", a.Status, a.Text)
			}
			p.check(name, method, path, a.Status, a.Text)
			if a.Header.Get("Azure-AsyncOperation") != "" {
				d.Follow(a)
			}
			d.Do("DELETE", at, nil) // lists of other versions could not show every source
		})
	}
}

// exampleRequest is what an example asks for.
func exampleRequest(name, at string, below func(string) string) (method, path string) {
	group := at[:strings.LastIndex(at, "/")] + at[strings.Index(at, "?"):]
	switch name {
	case "GetImageTemplate":
		return "GET", at
	case "DeleteImageTemplate":
		return "DELETE", at
	case "RunImageTemplate":
		return "POST", below("run")
	case "CancelImageBuild":
		return "POST", below("cancel")
	case "GetRunOutput":
		return "GET", below("runOutputs/out")
	case "ListRunOutputs":
		return "GET", below("runOutputs")
	case "ListImageTemplatesByRg":
		return "GET", group
	case "ListImageTemplates":
		return "GET", strings.Replace(group, "/resourceGroups/myResourceGroup", "", 1)
	case "OperationsList":
		return "GET", "/providers/Microsoft.VirtualMachineImages/operations" + at[strings.Index(at, "?"):]
	case "CreateSourceImageTrigger":
		return "PUT", below("triggers/source")
	case "GetTrigger":
		return "GET", below("triggers/source")
	case "ListTriggers":
		return "GET", below("triggers")
	case "DeleteTrigger":
		return "DELETE", below("triggers/source")
	}
	if strings.HasPrefix(name, "Update") {
		return "PATCH", at
	}
	return "PUT", at
}

// expected are statuses beside those that an example shows: it does not say in
// which state the template is.
func expected(name string, status int) bool {
	switch name {
	case "GetImageTemplate", "ListImageTemplates", "ListImageTemplatesByRg":
		return status == http.StatusOK // the oldest examples say 202, which their definition does not have
	case "CancelImageBuild":
		return status == http.StatusMethodNotAllowed // nothing is being built
	case "UpdateImageTemplateToRemoveIdentities":
		return status == http.StatusAccepted // which the definition has
	}
	return false
}
