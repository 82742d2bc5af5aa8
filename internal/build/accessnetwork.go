package build

import (
	"context"
	"slices"

	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/vnet"
)

// NetworkIssue is what keeps a build off the user's network: what is wrong,
// where, and the az line that mends it.
type NetworkIssue struct {
	Item    string `json:"item"` // of the networking document's checklist
	Message string `json:"message"`
	Target  string `json:"target"` // resource id
	Command string `json:"command"`
}

// CheckNetwork judges the network that t names by the networking document's
// checklist. A template that names none has no issues.
func (e *Engine) CheckNetwork(ctx context.Context, t *imagetemplate.Template) ([]NetworkIssue, error) {
	windows := slices.ContainsFunc(t.Customize, func(c imagetemplate.Customizer) bool { return c.Type.Windows() })
	d, ok := WantedNetwork(t, e.subscription, windows)
	if !ok {
		return nil, nil
	}
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	var out []NetworkIssue
	for _, f := range vnet.Checklist(s, d) {
		out = append(out, NetworkIssue{Item: string(f.Item), Message: f.Message, Target: f.Target, Command: f.Command})
	}
	return out, nil
}
