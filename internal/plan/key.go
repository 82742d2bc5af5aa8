package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// keySchema is raised whenever a key's meaning changes; old layers then miss.
const keySchema = 1

// Keys are the layer keys of a plan: Root names the freshly booted base, Steps
// has one key per step, each chained to the one before.
type Keys struct {
	Root  string
	Steps []string
}

// root is what of a plan every layer of it depends on.
type root struct {
	Image     string      `json:"image"`
	Seed      string      `json:"seed"`
	Settings  string      `json:"settings"`
	Shape     any         `json:"shape"`
	DiskBytes int64       `json:"diskBytes"`
	Network   NetworkMode `json:"network"`
	Rules     string      `json:"rules,omitempty"`
	Egress    string      `json:"egress,omitempty"`
	// Identities are part of it because a step may read with their tokens.
	Identities []string `json:"identities,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Refresh    string   `json:"refresh,omitempty"`
}

func (p *Plan) root(refresh string) root {
	return root{p.Base.Image, p.Seed, p.Settings, p.Shape, p.DiskBytes, p.Network, p.Rules, p.Egress, p.Identities, p.Tenant, refresh}
}

// Keys derives the layer keys. They hold everything that changes a layer's
// content and nothing else: no time, no names, no output targets. refresh is the
// user's explicit value for "not from an earlier cache".
func (p *Plan) Keys(refresh string) Keys {
	keys := Keys{Root: digest("root", p.root(refresh))}
	parent := keys.Root
	for _, s := range p.Steps {
		parent = digest("step", parent, s.canonical())
		keys.Steps = append(keys.Steps, parent)
	}
	return keys
}

// Last is the key of the last step, of the booted base without steps.
func (k Keys) Last() string {
	if len(k.Steps) == 0 {
		return k.Root
	}
	return k.Steps[len(k.Steps)-1]
}

// MemoryKey is the key of the memory layer beside the disk layer of a step: a
// hypervisor of another fingerprint cannot restore it.
func MemoryKey(step, fingerprint string) string { return digest("memory", step, fingerprint) }

// FlatKey is the key of the layer that has the whole chain up to a step in one.
func FlatKey(step string) string { return digest("flat", step) }

// generalised is raised whenever generalisation leaves another image behind for a
// reason that is not in the seed, which the helper is part of.
const generalised = 1

// ResultKey is the key of the finished image: the last step's, generalised.
func (k Keys) ResultKey() string { return digest("result", k.Last(), generalised) }

// canonical is what of a step changes its result. Its name, its position and
// where its bytes came from do not.
func (s Step) canonical() canonicalStep {
	c := canonicalStep{Type: string(s.Type), Inline: s.Inline, Destination: s.Destination, Values: s.Values, Reboot: s.Reboot}
	if s.Artifact != nil {
		c.SHA256 = s.Artifact.SHA256
	}
	if s.Destination != "" {
		// The name decides the path when the destination is a directory.
		c.FileName = s.FileName()
	}
	return c
}

type canonicalStep struct {
	Type        string   `json:"type"`
	Inline      []string `json:"inline,omitempty"`
	SHA256      string   `json:"sha256,omitempty"`
	FileName    string   `json:"fileName,omitempty"`
	Destination string   `json:"destination,omitempty"`
	Values      []Value  `json:"values,omitempty"`
	Reboot      bool     `json:"reboot,omitempty"`
}

// WarmKey is the key of the memory layer "this base, booted on its private
// network, signed in to once, seed unplugged" under a hypervisor fingerprint. Disk
// size and network are not part of it: the disk grows and the NIC is plugged into
// another network after the restore.
func (p *Plan) WarmKey(fingerprint string) string {
	return digest("warm with card, rehearsed", struct {
		Image       string `json:"image"`
		Seed        string `json:"seed"`
		Shape       any    `json:"shape"`
		Fingerprint string `json:"fingerprint"`
	}{p.Base.Image, p.Seed, p.Shape, fingerprint})
}

// digest hashes a kind and JSON-encodable parts; parts are length-prefixed, so
// that no two lists run into each other.
func digest(kind string, parts ...any) string {
	h := sha256.New()
	fmt.Fprintf(h, "goldsmith/%d/%s\n", keySchema, kind)
	for _, part := range parts {
		b, err := json.Marshal(part)
		if err != nil {
			panic(fmt.Sprintf("plan: key part of kind %s does not encode: %v", kind, err)) // only plain structs come here
		}
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}
