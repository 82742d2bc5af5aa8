package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Facts are what the keys of a plan were made of. They are kept after a run, so
// that the next one can say what changed.
type Facts struct {
	Root  json.RawMessage   `json:"root"`
	Steps []json.RawMessage `json:"steps"` // one per step
	Names []string          `json:"names,omitempty"`
}

// Facts are those of the plan. The values of parameters are in them, those of
// secrets are not.
func (p *Plan) Facts() (Facts, error) {
	var f Facts
	var err error
	if f.Root, err = json.Marshal(p.root("")); err != nil {
		return f, fmt.Errorf("encode the facts of a plan: %w", err)
	}
	for _, s := range p.Steps {
		text, err := json.Marshal(s.canonical())
		if err != nil {
			return f, fmt.Errorf("encode the facts of a plan: %w", err)
		}
		f.Steps = append(f.Steps, text)
	}
	return f, nil
}

// Changes says in words what is different from before to now: what concerns the
// whole build first, then each step, of which Changes.Steps[i] is the i-th of
// now, "" for one without a difference.
type Changes struct {
	Whole string
	Steps []string
}

// Compare compares two builds. Steps are compared in order.
func Compare(before, now Facts) Changes {
	c := Changes{Whole: differences(before.Root, now.Root, rootWords), Steps: make([]string, len(now.Steps))}
	for i, step := range now.Steps {
		if i >= len(before.Steps) {
			c.Steps[i] = "the step is new"
			continue
		}
		c.Steps[i] = differences(before.Steps[i], step, stepWords)
	}
	return c
}

var rootWords = map[string]string{
	"image": "the base image", "seed": "what the builder puts into the guest", "settings": "the guest's proxies or certificates",
	"shape": "the size of the machine", "diskBytes": "the size of the disk", "network": "the network access", "rules": "the network's rules", "egress": "what the guest may reach", "tenant": "the tenant",
	"identities": "the identities of the machine",
}

var stepWords = map[string]string{
	"type": "its type", "inline": "its commands", "sha256": "the content of its file", "fileName": "the name of its file",
	"destination": "its destination", "values": "its parameters or secrets", "reboot": "its restart",
}

// differences names the members in which two objects differ.
func differences(before, now json.RawMessage, words map[string]string) string {
	var a, b map[string]any
	if json.Unmarshal(before, &a) != nil || json.Unmarshal(now, &b) != nil {
		return "it cannot be compared"
	}
	var changed []string
	for name, word := range words {
		if !reflect.DeepEqual(a[name], b[name]) {
			changed = append(changed, word)
		}
	}
	if len(changed) == 0 {
		return ""
	}
	slices.Sort(changed)
	return strings.Join(changed, " and ") + " changed"
}
