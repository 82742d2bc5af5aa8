package imagetemplate

import (
	"encoding/json"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// Status is what the service knows about a template beside its body.
type Status struct {
	ProvisioningState string // Creating, Updating, Succeeded, Failed, Deleting
	ProvisioningError *ProvisioningError
	LastRun           *LastRun // nil before the first run
	ExactVersion      string   // of the source, "" while it is not known
	StagingGroup      string   // exactStagingResourceGroup, "" while it is not made
	// SHA256 are the digests of the frozen artifacts, by address.
	SHA256 map[string]string
}

// ProvisioningError is properties.provisioningError.
type ProvisioningError struct {
	Code    string `json:"provisioningErrorCode"` // see ProvisioningErrorCode
	Message string `json:"message"`
}

// LastRun is properties.lastRunStatus. Times are RFC 3339; an end that has not
// come is the zero time, as the real service writes it.
type LastRun struct {
	StartTime   string `json:"startTime"`
	EndTime     string `json:"endTime"`
	RunState    string `json:"runState"`
	RunSubState string `json:"runSubState,omitempty"` // only while running
	Message     string `json:"message"`
}

// Serve is the properties of a template as a client of version to gets them.
// properties are as they were sent in version from. Fields have the names and
// discriminators of version to, those that it does not have are left out, and
// defaults are filled in where the real service fills them.
func Serve(properties []byte, from, to string, s Status) (json.RawMessage, error) {
	sent, ok := parseVersion(from)
	asked, known := parseVersion(to)
	if !ok || !known {
		return nil, arm.Errorf(arm.CodeInvalidAPIVersion, "there is no API version %q or %q", from, to)
	}
	root, err := jsontree.Parse(properties, limits)
	if err != nil {
		return nil, arm.Errorf(arm.CodeCorrupt, "the properties of the template do not parse: %w", err)
	}
	if root.Kind != jsontree.Object {
		return nil, arm.Errorf(arm.CodeCorrupt, "the properties of the template are %s", root.Kind)
	}
	v := server{from: sent, to: asked, status: s}
	return v.properties(root).Append(nil), nil
}

// server writes what was sent in one version for a client of another.
type server struct {
	from, to version
	status   Status
}

// properties puts the states between what is built and how it is built, where
// the real service has them.
func (s server) properties(root *jsontree.Node) *jsontree.Node {
	n := s.object(root, propertiesShape)
	if since(v2019May).has(s.to) {
		set(n, "buildTimeoutInMinutes", number("0"))
	}
	if since(v2022Feb).has(s.to) {
		set(n, "stagingResourceGroup", textNode(""))
		set(n, "exactStagingResourceGroup", textNode(s.status.StagingGroup))
	}
	var states []jsontree.Member
	add := func(key string, value *jsontree.Node) {
		states = append(states, jsontree.Member{Key: key, Value: value})
	}
	if s.status.ProvisioningState != "" {
		add("provisioningState", textNode(s.status.ProvisioningState))
	}
	if e := s.status.ProvisioningError; e != nil {
		add("provisioningError", objectNode("provisioningErrorCode", textNode(e.Code), "message", textNode(e.Message)))
	}
	if r := s.status.LastRun; r != nil {
		add("lastRunStatus", s.lastRun(r))
	}
	early := []string{"source", "customize", "optimize", "validate", "distribute", "errorHandling"}
	at := slices.IndexFunc(n.Members, func(m jsontree.Member) bool { return !slices.Contains(early, m.Key) })
	if at < 0 {
		at = len(n.Members)
	}
	n.Members = slices.Insert(n.Members, at, states...)
	return n
}

func (s server) lastRun(r *LastRun) *jsontree.Node {
	state, sub := r.RunState, r.RunSubState
	switch {
	case s.to == v2018Feb: // which writes them with a small initial
		state, sub = lowerFirst(state), lowerFirst(sub)
	case s.to < v2022Feb && sub == "Validating", s.to < v2022Jul && sub == "Optimizing":
		sub = "Customizing"
	}
	if s.to == v2018Feb && (sub == "validating" || sub == "optimizing") {
		sub = "customizing"
	}
	n := objectNode("startTime", textNode(r.StartTime), "endTime", textNode(r.EndTime), "runState", textNode(state))
	if sub != "" {
		set(n, "runSubState", textNode(sub))
	}
	set(n, "message", textNode(r.Message))
	return n
}

func lowerFirst(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// object writes an object of one shape: its members in the order of the tables.
func (s server) object(n *jsontree.Node, shape *shape) *jsontree.Node {
	out := &jsontree.Node{Kind: jsontree.Object}
	for _, f := range shape.fields {
		if f.readOnly || !f.in.has(s.from) {
			continue
		}
		given := s.member(n, f.name)
		if given == nil || given.Kind == jsontree.Null {
			continue
		}
		name, has := spelled(shape, f.key, s.to)
		if !has {
			continue
		}
		if v := s.value(given, f); v != nil {
			set(out, name, v)
		}
	}
	if shape == vmProfileShape {
		out = s.vmProfile(out)
	}
	if shape == vnetShape && since(v2021Oct).has(s.to) && out.Get("subnetId") != nil {
		set(out, "proxyVmSize", textNode(""))
	}
	return out
}

// vmProfile has its two sizes first, whether or not they were sent.
func (s server) vmProfile(n *jsontree.Node) *jsontree.Node {
	out := objectNode("vmSize", orText(n.Get("vmSize"), ""))
	if since(v2020Feb).has(s.to) {
		size := n.Get("osDiskSizeGB")
		if size == nil {
			size = number("0")
		}
		set(out, "osDiskSizeGB", size)
	}
	for _, m := range n.Members {
		set(out, m.Key, m.Value)
	}
	return out
}

// member is what n has under a name of version from.
func (s server) member(n *jsontree.Node, name string) *jsontree.Node {
	var found *jsontree.Node
	for _, m := range n.Members {
		if !m.Overridden && s.from.same(m.Key, name) {
			found = m.Value
		}
	}
	return found
}

// spelled is how version v names the field that the package knows as key.
func spelled(shape *shape, key string, v version) (string, bool) {
	for _, f := range shape.fields {
		if f.key == key && f.in.has(v) {
			return f.name, true
		}
	}
	return "", false
}

func (s server) value(n *jsontree.Node, f field) *jsontree.Node {
	switch f.kind {
	case intKind:
		if n.Kind == jsontree.String { // which the lenient versions take for a number
			return number(strings.TrimSpace(n.Text))
		}
	case boolKind:
		if n.Kind == jsontree.String {
			return boolNode(strings.EqualFold(n.Text, "true"))
		}
	case textKind:
		if n.Kind == jsontree.Number || n.Kind == jsontree.Bool {
			return textNode(n.Text)
		}
		for _, c := range f.enum {
			if strings.EqualFold(c.text, n.Text) {
				return textNode(c.text)
			}
		}
	case textListKind, intListKind:
		if n.Kind != jsontree.Array {
			return &jsontree.Node{Kind: jsontree.Array, Items: []*jsontree.Node{n}}
		}
	case objectKind:
		return s.object(n, f.of)
	case unionKind:
		return s.variant(n, f.union)
	case objectListKind, unionListKind:
		out := &jsontree.Node{Kind: jsontree.Array}
		for _, item := range n.Items {
			if f.kind == unionListKind {
				out.Items = append(out.Items, s.variant(item, f.union))
			} else {
				out.Items = append(out.Items, s.object(item, f.of))
			}
		}
		return out
	}
	return n
}

// variant writes an object with a discriminator: its members by name, with what
// the real service fills in.
func (s server) variant(n *jsontree.Node, u *union) *jsontree.Node {
	tag := s.member(n, u.discriminator)
	if tag == nil {
		return n
	}
	w, ok := u.find(tag.Text, s.from)
	if !ok {
		return n
	}
	out := s.object(n, w.shape)
	set(out, u.discriminator, textNode(w.spelling(s.to)))
	switch {
	case u == sourceUnion:
		s.source(out, w)
	case u == distributorUnion:
		s.distributor(out, w)
	case u == customizerUnion || u == validatorUnion:
		s.step(out, w, u == customizerUnion)
	}
	slices.SortStableFunc(out.Members, func(a, b jsontree.Member) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// source tells the exact version: in a field of its own since there is one,
// before that behind "latest".
func (s server) source(n *jsontree.Node, w variant) {
	exact := s.status.ExactVersion
	switch SourceType(w.name) {
	case PlatformImage:
		asked := n.Get("version")
		if asked == nil {
			return
		}
		latest := strings.EqualFold(asked.Text, "latest")
		switch {
		case since(v2021Oct).has(s.to) && latest && exact != "":
			set(n, "exactVersion", textNode(exact))
		case since(v2021Oct).has(s.to):
			set(n, "exactVersion", textNode(asked.Text))
		case latest && exact != "":
			replace(n, "version", textNode(asked.Text+" ("+exact+")"))
		}
	case SharedImageVersion:
		asked := n.Get("imageVersionId")
		if asked == nil || !since(v2022Jul).has(s.to) {
			return
		}
		if exact == "" {
			exact = asked.Text
		}
		set(n, "exactVersion", textNode(exact))
	case ManagedImage, ISO:
	}
}

func (s server) distributor(n *jsontree.Node, w variant) {
	set(n, "artifactTags", &jsontree.Node{Kind: jsontree.Object})
	if DistributeType(w.name) != ToSharedImage {
		return
	}
	if since(v2020Feb).has(s.to) {
		set(n, "excludeFromLatest", boolNode(false))
	}
	if since(v2022Jul).has(s.to) {
		set(n, "versioning", &jsontree.Node{Kind: jsontree.Null, Text: "null"})
	}
}

// step fills a customizer (or validator) in.
func (s server) step(n *jsontree.Node, w variant, customizer bool) {
	for _, key := range []string{"scriptUri", "sourceUri"} {
		if uri := n.Get(key); uri != nil && uri.Text != "" {
			if sum := s.status.SHA256[uri.Text]; sum != "" {
				replace(n, "sha256Checksum", textNode(sum))
			}
		}
	}
	if sum := n.Get("sha256Checksum"); sum != nil && sum.Text == "" {
		n.Members = slices.DeleteFunc(n.Members, func(m jsontree.Member) bool { return m.Key == "sha256Checksum" })
	}
	if !customizer {
		return
	}
	switch {
	case StepType(w.name) == PowerShell && since(v2019May).has(s.to):
		set(n, "runElevated", boolNode(false))
	case StepType(w.name) == WindowsRestart:
		set(n, "restartCommand", textNode(""))
	}
}

// set adds a member unless there is one of the name.
func set(n *jsontree.Node, key string, v *jsontree.Node) {
	if n.Get(key) == nil {
		n.Members = append(n.Members, jsontree.Member{Key: key, Value: v})
	}
}

// replace sets a member whatever there is.
func replace(n *jsontree.Node, key string, v *jsontree.Node) {
	for i := range n.Members {
		if n.Members[i].Key == key {
			n.Members[i].Value = v
			return
		}
	}
	set(n, key, v)
}

func textNode(s string) *jsontree.Node { return &jsontree.Node{Kind: jsontree.String, Text: s} }
func number(s string) *jsontree.Node   { return &jsontree.Node{Kind: jsontree.Number, Text: s} }

func boolNode(b bool) *jsontree.Node {
	if b {
		return &jsontree.Node{Kind: jsontree.Bool, Text: "true"}
	}
	return &jsontree.Node{Kind: jsontree.Bool, Text: "false"}
}

func orText(n *jsontree.Node, def string) *jsontree.Node {
	if n == nil {
		return textNode(def)
	}
	return n
}

// objectNode is an object of keys and values in turn.
func objectNode(pairs ...any) *jsontree.Node {
	n := &jsontree.Node{Kind: jsontree.Object}
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Members = append(n.Members, jsontree.Member{Key: pairs[i].(string), Value: pairs[i+1].(*jsontree.Node)})
	}
	return n
}
