//go:build vm

package vm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// step is one entry of customize[].
type step map[string]any

// shell is a Shell customizer with inline commands.
func shell(name string, commands ...string) step {
	return step{"type": "Shell", "name": name, "inline": commands}
}

// debian is the platform image that most tests build from.
var debian = map[string]any{
	"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest",
}

// templateSpec is what tests vary in a template.
type templateSpec struct {
	Name      string         // also of the managed image
	Source    map[string]any // nil for debian
	Customize []step
	DiskGB    int // osDiskSizeGB; 0 for the base's size
}

// imageID is the managed image that a template of name makes.
func imageID(name string) string {
	return "/subscriptions/<subscriptionID>/resourceGroups/vm-test/providers/Microsoft.Compute/images/" + name
}

// template writes a template that makes one managed image, and deletes both when
// the test ends.
func (h host) template(t *testing.T, s templateSpec) (path string) {
	t.Helper()
	dir := h.scratch
	if dir == "" {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		// A build that failed has made no image.
		_ = h.run(t, "image", "delete", s.Name)
		_ = h.run(t, "template", "delete", s.Name)
	})
	return writeTemplate(t, dir, s)
}

// writeTemplate writes a template into dir.
func writeTemplate(t *testing.T, dir string, s templateSpec) (path string) {
	t.Helper()
	if s.Source == nil {
		s.Source = debian
	}
	profile := map[string]any{"vmSize": "Standard_B1ms"}
	if s.DiskGB > 0 {
		profile["osDiskSizeGB"] = s.DiskGB
	}
	body := map[string]any{
		"apiVersion": "2022-07-01",
		"type":       "Microsoft.VirtualMachineImages/imageTemplates",
		"name":       s.Name,
		"location":   "westus2",
		"identity": map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{
			"/subscriptions/<subscriptionID>/resourceGroups/vm-test/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder": map[string]any{},
		}},
		"properties": map[string]any{
			"buildTimeoutInMinutes": 60,
			"vmProfile":             profile,
			"source":                s.Source,
			"customize":             s.Customize,
			"distribute": []any{map[string]any{
				"type": "ManagedImage", "runOutputName": s.Name, "imageId": imageID(s.Name), "location": "westus2",
			}},
		},
	}
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, s.Name+".json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
