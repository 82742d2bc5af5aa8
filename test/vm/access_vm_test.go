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

// TestAccessScenarios builds for real what the permissions document describes:
// to a managed image, to a gallery, from a managed image, from a gallery version.
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
