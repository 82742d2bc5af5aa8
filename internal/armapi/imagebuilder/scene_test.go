//go:build conformance

package imagebuilder_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/resource"
)

// gate holds guests that start while it is closed.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while it is open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) helper(ctx context.Context, _ *buildtest.Guest, _ protocol.Op) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// obedient succeeds with every script: the recorded ones are not ours to run.
func obedient(_ context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
	return 0, text != ""
}

func (s *scene) putIdentity(name string) {
	s.t.Helper()
	id := "/subscriptions/" + s.bound["sub"] + "/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
	s.Put(resource.Record{
		ID: id, Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Name: name, Location: "westus",
		Properties: []byte(`{"principalId":"44444444-4444-4444-4444-444444444444","clientId":"55555555-5555-5555-5555-555555555555"}`),
	})
}

const templatesSegment = "/imageTemplates/"

// templateOf is the path of the template in a path, "" when there is none.
func templateOf(path string) string {
	at := strings.Index(path, templatesSegment)
	if at < 0 {
		return ""
	}
	name, _, _ := strings.Cut(path[at+len(templatesSegment):], "/")
	return path[:at+len(templatesSegment)] + name
}

// templatesIn are the templates that a body shows.
func templatesIn(body any) []string {
	var all []string
	eachTemplate(body, func(m map[string]any) { all = append(all, templateID(m)) })
	return all
}

func templateID(m map[string]any) string {
	id, _ := m["id"].(string)
	return strings.Replace(id, "/resourcegroups/", "/resourceGroups/", 1)
}

func eachTemplate(body any, f func(map[string]any)) {
	m, ok := body.(map[string]any)
	if !ok {
		return
	}
	if m["type"] == "Microsoft.VirtualMachineImages/imageTemplates" {
		f(m)
	}
	list, _ := m["value"].([]any)
	for _, v := range list {
		eachTemplate(v, f)
	}
}

// triggersIn are the names of the triggers that a body shows.
func triggersIn(body any) []string {
	m, ok := body.(map[string]any)
	if !ok {
		return nil
	}
	list, _ := m["value"].([]any)
	var all []string
	for _, v := range list {
		if t, ok := v.(map[string]any); ok {
			all = append(all, t["name"].(string))
		}
	}
	return all
}

// lastRunIn is lastRunStatus.runState of a template that a body shows.
func lastRunIn(body any, id string) (state string, shown bool) {
	eachTemplate(body, func(m map[string]any) {
		if templateID(m) != id {
			return
		}
		shown = true
		properties, _ := m["properties"].(map[string]any)
		last, _ := properties["lastRunStatus"].(map[string]any)
		state, _ = last["runState"].(string)
	})
	return state, shown
}

// shown is a template as a recording shows it first, without what only the
// service fills in, and the version that shows it.
func (s *scene) shown(id string, rec recording) (body map[string]any, version string) {
	s.t.Helper()
	for _, x := range rec.Exchanges {
		eachTemplate(x.decoded(s.t), func(m map[string]any) {
			if body == nil && templateID(m) == id {
				body = m
				version, _, _ = strings.Cut(strings.TrimPrefix(x.Query, "api-version="), "&")
			}
		})
	}
	if body == nil {
		return s.invented(id, rec), "2022-07-01"
	}
	for _, key := range []string{"id", "name", "type"} {
		delete(body, key)
	}
	properties := body["properties"].(map[string]any)
	for _, key := range []string{"provisioningState", "provisioningError", "lastRunStatus", "exactStagingResourceGroup"} {
		delete(properties, key)
	}
	source := properties["source"].(map[string]any)
	delete(source, "exactVersion")
	if v, ok := source["version"].(string); ok {
		source["version"], _, _ = strings.Cut(v, " ")
	}
	steps, _ := properties["customize"].([]any)
	for _, step := range steps {
		delete(step.(map[string]any), "sha256Checksum")
	}
	identity := body["identity"].(map[string]any)
	users, _ := identity["userAssignedIdentities"].(map[string]any)
	for user := range users {
		users[user] = map[string]any{}
	}
	return body, version
}

// invented is a template that no recording shows, with the outputs that it does.
func (s *scene) invented(id string, rec recording) map[string]any {
	s.t.Helper()
	type output struct {
		Name       string
		Properties struct{ ArtifactID string }
	}
	var targets []any
	for _, x := range rec.Exchanges {
		var list struct{ Value []output }
		if !strings.HasPrefix(x.Path, id+"/runOutputs") || json.Unmarshal(x.Body, &list) != nil {
			continue
		}
		for _, o := range list.Value {
			artifact := o.Properties.ArtifactID
			if image, _, ok := strings.Cut(artifact, "/versions/"); ok {
				s.putDefinition(s.bound.expand(image), "westus")
				targets = append(targets, map[string]any{"type": "SharedImage", "runOutputName": o.Name, "galleryImageId": image, "replicationRegions": []string{"westus"}})
				continue
			}
			s.putGroupOf(s.bound.expand(artifact))
			targets = append(targets, map[string]any{"type": "ManagedImage", "runOutputName": o.Name, "imageId": artifact, "location": "westus"})
		}
	}
	if targets == nil {
		targets = []any{map[string]any{"type": "VHD", "runOutputName": "out"}}
	}
	return map[string]any{
		"location": "eastus",
		"identity": map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{
			"/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ide1": map[string]any{}}},
		"properties": map[string]any{
			"source":     map[string]any{"type": "PlatformImage", "publisher": "Canonical", "offer": "UbuntuServer", "sku": "18.04-LTS", "version": "latest"},
			"distribute": targets,
		},
	}
}

// targets makes the groups, galleries and definitions that a body distributes to.
func (s *scene) targets(raw json.RawMessage) {
	s.t.Helper()
	var body struct {
		Properties struct {
			Distribute []struct {
				ImageID, GalleryImageID string
				ReplicationRegions      []string
			}
		}
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		s.t.Fatal(err)
	}
	for _, d := range body.Properties.Distribute {
		if d.GalleryImageID != "" {
			image, _, _ := strings.Cut(d.GalleryImageID, "/versions/")
			s.putDefinition(s.bound.expand(image), append(d.ReplicationRegions, "westus")[0])
		}
		if d.ImageID != "" {
			s.putGroupOf(s.bound.expand(d.ImageID))
		}
	}
}

// networks makes the virtual networks that a body builds on.
func (s *scene) networks(raw json.RawMessage) {
	s.t.Helper()
	var body struct {
		Properties struct {
			VMProfile struct {
				VnetConfig struct{ SubnetID string }
			}
		}
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		s.t.Fatal(err)
	}
	id := s.bound.expand(body.Properties.VMProfile.VnetConfig.SubnetID)
	if id == "" {
		return
	}
	network, subnet, _ := strings.Cut(id, "/subnets/")
	s.Put(resource.Record{
		ID: network, Type: "Microsoft.Network/virtualNetworks", Name: network[strings.LastIndexByte(network, '/')+1:], Location: "westus",
		Properties: []byte(`{"provisioningState":"Succeeded","addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"` + subnet +
			`","properties":{"addressPrefix":"10.0.0.0/24","privateLinkServiceNetworkPolicies":"Disabled"}}]}`),
	})
}

func (s *scene) putGroupOf(id string) {
	s.t.Helper()
	name, _, _ := strings.Cut(strings.Split(id, "/resourceGroups/")[1], "/")
	s.PutNamedGroup(name, "westus")
}

// putDefinition makes an image definition by its id, with its gallery.
func (s *scene) putDefinition(id, location string) {
	s.t.Helper()
	s.putGroupOf(id)
	gallery, name, _ := strings.Cut(id, "/images/")
	properties := []byte(`{"osType":"Linux","osState":"Generalized","hyperVGeneration":"V2"}`)
	s.Put(resource.Record{ID: gallery, Type: "Microsoft.Compute/galleries", Name: gallery[strings.LastIndexByte(gallery, '/')+1:], Location: location, Properties: properties})
	s.Put(resource.Record{ID: id, Type: "Microsoft.Compute/galleries/images", Name: name, Location: location, Properties: properties})
}

func sortedKeys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
