package imagebuilder_test

import (
	"net/http"
	"strings"
	"testing"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/run"
)

func trigger(d *imagebuildertest.Door, template, name string) string {
	return action(d, template, "triggers/"+name, "2022-07-01")
}

var sourceImage = object{"properties": object{"kind": "SourceImage"}}

func TestTriggers(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version = "2022-07-01"
	made(d, "a", version, nil)
	a := d.Want(http.StatusCreated, "PUT", trigger(d, "a", "new"), sourceImage)
	if a.Field("properties.provisioningState") != "Creating" || a.Field("properties.kind") != "SourceImage" || a.Header.Get("Location") != "" ||
		a.Field("type") != "Microsoft.VirtualMachineImages/imageTemplates/triggers" {
		t.Errorf("the answer to PUT: %v %s", a.Header, a.Text)
	}
	if op := d.Follow(a); op.Field("status") != "Succeeded" {
		t.Errorf("the operation: %s", op.Text)
	}
	got := d.Want(http.StatusOK, "GET", trigger(d, "a", "new"), nil)
	if got.Field("properties.provisioningState") != "Succeeded" || got.Field("properties.status.code") != "Healthy" || got.Field("properties.status.message") != "Trigger is active" {
		t.Errorf("the trigger: %s", got.Text)
	}
	d.Want(http.StatusOK, "PUT", trigger(d, "a", "new"), sourceImage)
	if a := d.Do("PUT", trigger(d, "a", "second"), sourceImage); a.Status != http.StatusConflict {
		t.Errorf("a second trigger: %d %s", a.Status, a.Text)
	}
	if list := d.Want(http.StatusOK, "GET", action(d, "a", "triggers", version), nil); strings.Count(list.Text, `"kind"`) != 1 {
		t.Errorf("the list: %s", list.Text)
	}
	gone := d.Want(http.StatusAccepted, "DELETE", trigger(d, "a", "new"), nil)
	if op := d.Follow(gone); op.Field("status") != "Succeeded" {
		t.Errorf("the delete: %s", op.Text)
	}
	d.Want(http.StatusNoContent, "DELETE", trigger(d, "a", "new"), nil)
	d.Want(http.StatusNotFound, "GET", trigger(d, "a", "new"), nil)

	made(d, "exact", version, object{"source": object{"type": "PlatformImage", "publisher": "Lab", "offer": "linux", "sku": "gen2",
		"version": d.Want(200, "GET", d.Template("a", version), nil).Field("properties.source.exactVersion")}})
	for path, status := range map[string]int{trigger(d, "exact", "t"): 400, trigger(d, "none", "t"): 404} {
		if a := d.Do("PUT", path, sourceImage); a.Status != status {
			t.Errorf("%s: %d %s", path, a.Status, a.Text)
		}
	}
	if a := d.Do("PUT", trigger(d, "a", "t"), object{"properties": object{"kind": "Clock"}}); a.Status != 400 {
		t.Errorf("another kind: %d %s", a.Status, a.Text)
	}
}

// A new version of the source starts a run, once.
func TestTriggerActs(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version = "2022-07-01"
	definition := d.ID("Microsoft.Compute/galleries/gal/images/base")
	d.PutDefinition("base", "V2")
	// Two versions of a gallery image, the second of which comes later.
	made(d, "maker", version, object{"distribute": []any{object{
		"type": "SharedImage", "runOutputName": "base", "galleryImageId": definition, "replicationRegions": []string{buildtest.Location},
		"versioning": object{"scheme": "Latest"},
	}}})
	build := func() {
		if op := d.Follow(d.Want(http.StatusAccepted, "POST", action(d, "maker", "run", version), nil)); op.Field("status") != "Succeeded" {
			t.Fatalf("%s", op.Text)
		}
	}
	build()
	made(d, "a", version, object{"source": object{"type": "SharedImageVersion", "imageVersionId": definition + "/versions/latest"}})
	d.Follow(d.Want(http.StatusCreated, "PUT", trigger(d, "a", "t"), sourceImage))
	runs := func() []run.Record {
		all, err := d.Engine.Runs().List(t.Context(), run.Filter{Template: d.ID("Microsoft.VirtualMachineImages/imageTemplates/a")})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	pull := func(want int) {
		t.Helper()
		if err := d.Engine.PullTriggers(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := runs()
		if len(all) != want {
			t.Fatalf("%d runs, want %d", len(all), want)
		}
		if want > 0 {
			d.Ended(all[0].ID)
		}
	}
	pull(0)
	build()
	pull(1)
	pull(1)
	if r := runs()[0]; r.State != run.Succeeded {
		t.Errorf("%+v", r)
	}
	// Three builds that fail make it inactive.
	broken := body(d, "a", object{"source": object{"type": "SharedImageVersion", "imageVersionId": definition + "/versions/latest"},
		"customize": []any{object{"type": "Shell", "name": "break", "inline": []string{"exit 1"}}}})
	d.Follow(d.Want(http.StatusOK, "PUT", d.Template("a", version), broken, "X-Goldsmith-Update", "in-place"))
	for range 3 {
		d.Follow(d.Want(http.StatusAccepted, "POST", action(d, "a", "run", version), nil))
	}
	build()
	pull(4)
	got := d.Want(http.StatusOK, "GET", trigger(d, "a", "t"), nil)
	if got.Field("properties.status.code") != "Unhealthy" {
		t.Errorf("the trigger after three failures: %s", got.Text)
	}
}
