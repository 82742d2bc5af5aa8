//go:build vm

package az

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"goldsmith/internal/conformance"
)

// block is a fenced block of a document.
type block struct {
	language string
	text     string
}

// blocks are the fenced blocks of a published document.
func blocks(t *testing.T, name string) []block {
	t.Helper()
	body := conformance.Read(t, "seeds", name)
	var out []block
	var open *block
	for line := range strings.Lines(string(body)) {
		switch fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```"); {
		case isFence && open == nil:
			open = &block{language: strings.ToLower(strings.TrimSpace(fence))}
		case isFence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return out
}

// azLine is a line that begins a command of az.
var azLine = regexp.MustCompile(`(?m)^\s*az `)

// azCommands are the blocks of a document that run az.
func azCommands(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, b := range blocks(t, name) {
		if azLine.MatchString(b.text) {
			out = append(out, b.text)
		}
	}
	return out
}

// Roles of this program's own, in the place of the files that the documents
// fetch. curl in the scripts is a function that takes them from here.
const (
	imageRole = `{
  "Name": "Azure Image Builder Service Image Creation Role",
  "IsCustom": true,
  "Description": "What the image builder needs where it publishes images",
  "Actions": [
    "Microsoft.Compute/galleries/read",
    "Microsoft.Compute/galleries/images/read",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/galleries/images/versions/write",
    "Microsoft.Compute/images/write",
    "Microsoft.Compute/images/read",
    "Microsoft.Compute/images/delete"
  ],
  "NotActions": [],
  "AssignableScopes": ["/subscriptions/<subscriptionID>/resourceGroups/<rgName>"]
}
`
	networkRole = `{
  "Name": "Azure Image Builder Service Networking Role",
  "IsCustom": true,
  "Description": "What the image builder needs where its build machine is connected",
  "Actions": [
    "Microsoft.Network/virtualNetworks/read",
    "Microsoft.Network/virtualNetworks/subnets/join/action"
  ],
  "NotActions": [],
  "AssignableScopes": ["/subscriptions/<subscriptionID>/resourceGroups/<vnetRgName>"]
}
`
	fetchRoles = `curl() { cp "$HOME/roles/$(basename "$1")" "$3"; }
`
)

// roles puts the role files where the curl of the scripts finds them.
func (s *service) roles() {
	s.t.Helper()
	dir := filepath.Join(s.dir, "roles")
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	for name, body := range map[string]string{"aibRoleImageCreation.json": imageRole, "aibRoleNetworking.json": networkRole} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}
