package upkeep_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/armapi/upkeep"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
)

const stranger = "66666666-6666-6666-6666-666666666666"

// built is a door with an image and a run of a template.
func built(t *testing.T) (d *imagebuildertest.Door, runID string) {
	t.Helper()
	d = imagebuildertest.New(t)
	rec, _, err := d.Build(t.Context(), d.Request("made", buildtest.Template{
		Customize:  []buildtest.Object{{"type": "Shell", "name": "greet", "inline": []string{"echo hello"}}},
		Distribute: []buildtest.Object{{"type": "ManagedImage", "runOutputName": "out", "location": buildtest.Location, "imageId": d.ID("Microsoft.Compute/images/image")}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return d, rec.ID
}

func ask(d *imagebuildertest.Door, who, action string, in any) imagebuildertest.Answer {
	d.Helper()
	return d.As(who, http.MethodPost, "/subscriptions/"+d.Engine.Subscription()+"/providers/"+imagebuilder.Extension+"/"+action+"?api-version=2026-01-01", in)
}

// Whoever has no right sees nothing, and can do nothing.
func TestStrangers(t *testing.T) {
	d, runID := built(t)
	all, err := d.Engine.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	image := all[0].ID
	for _, tt := range []struct {
		action string
		in     upkeep.Input
		status int
		text   string // in the answer
	}{
		{"images", upkeep.Input{}, http.StatusOK, "[]"},
		{"templates", upkeep.Input{}, http.StatusOK, "[]"},
		{"image", upkeep.Input{Name: image}, http.StatusNotFound, "NotFound"},
		{"export", upkeep.Input{Name: image, Format: ".raw"}, http.StatusNotFound, "NotFound"},
		{"template", upkeep.Input{Name: "made"}, http.StatusNotFound, "NotFound"},
		{"console", upkeep.Input{Name: runID}, http.StatusNotFound, "NotFound"},
		{"diff", upkeep.Input{Name: image, Other: image}, http.StatusNotFound, "NotFound"},
		{"capture", upkeep.Input{Name: runID}, http.StatusForbidden, "runs/capture/action"},
		{"debug", upkeep.Input{Name: runID, Command: "id"}, http.StatusForbidden, "runs/debug/action"},
		{"drop", upkeep.Input{Name: runID}, http.StatusForbidden, "runs/debug/action"},
		{"networks", upkeep.Input{}, http.StatusOK, "[]"},
		{"reach", upkeep.Input{}, http.StatusBadRequest, "between what"},
		{"reach", upkeep.Input{Reach: &build.Reach{Network: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v"}}, http.StatusNotFound, "NotFound"},
		{"boot", upkeep.Input{Name: image, Command: "id"}, http.StatusForbidden, "images/boot/action"},
		{"catalog", upkeep.Input{}, http.StatusForbidden, "catalog/read"},
		{"catalogEntry", upkeep.Input{Name: "Lab:linux:gen2:latest"}, http.StatusForbidden, "catalog/read"},
		{"catalogAdd", upkeep.Input{Name: "a:b:c:1.0.0", From: "https://example.org/disk"}, http.StatusForbidden, "catalog/write"},
		{"catalogPull", upkeep.Input{Name: "Lab:linux:gen2:latest"}, http.StatusForbidden, "catalog/write"},
		{"catalogRemove", upkeep.Input{Name: "Lab:linux:gen2:latest"}, http.StatusForbidden, "catalog/delete"},
		{"layers", upkeep.Input{}, http.StatusForbidden, "cache/read"},
		{"layer", upkeep.Input{Name: "a"}, http.StatusForbidden, "cache/read"},
		{"prune", upkeep.Input{}, http.StatusForbidden, "cache/delete"},
		{"collect", upkeep.Input{}, http.StatusForbidden, "cache/delete"},
		{"verify", upkeep.Input{}, http.StatusForbidden, "cache/read"},
		{"audit", upkeep.Input{}, http.StatusForbidden, "audit/read"},
	} {
		if a := ask(d, stranger, tt.action, tt.in); a.Status != tt.status || !strings.Contains(a.Text, tt.text) {
			t.Errorf("%s: %d %s, want %d with %s", tt.action, a.Status, a.Text, tt.status, tt.text)
		}
	}
	d.Allow = func(a armapi.Access) bool { // one who may read this image
		return strings.EqualFold(a.Scope, image) && strings.HasSuffix(a.Action, "/read")
	}
	var found []build.Image
	d.Decode(ask(d, stranger, "images", upkeep.Input{}), &found)
	if len(found) != 1 || string(found[0].Internal) != "null" {
		t.Errorf("images of a reader: %+v", found)
	}
}

// Nothing but an address is added to the catalog, formats are extensions, and an
// answer that takes its time ends with a result or a fault.
func TestHostileInput(t *testing.T) {
	d, _ := built(t)
	for _, format := range []string{"", "/../../x.raw", ".zip", ".qcow2/x.raw"} {
		if a := ask(d, imagebuildertest.Admin, "export", upkeep.Input{Name: "image", Format: format}); a.Status < 400 {
			t.Errorf("exported as %q: %d", format, a.Status)
		}
	}
	for _, from := range []string{"", "/etc/passwd", "file:///etc/passwd", "../disk.raw"} {
		a := ask(d, imagebuildertest.Admin, "catalogAdd", upkeep.Input{Name: "Lab:linux:other:1.0.0", From: from})
		var f upkeep.Frame
		if err := json.Unmarshal([]byte(a.Text), &f); err != nil || f.Fault == nil || f.Fault.Code != string(arm.CodeUsage) {
			t.Errorf("from %q: %d %s", from, a.Status, a.Text)
		}
	}
	for _, body := range []string{"", "[]", `{"maxAge":"long"}`, "{"} {
		if a := ask(d, imagebuildertest.Admin, "prune", body); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, a.Status, a.Text)
		}
	}
	left, err := os.ReadDir(d.Data + "/downloads")
	if err == nil && len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
