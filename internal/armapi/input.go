package armapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// input is the body of a PUT or PATCH of a resource.
type input struct {
	location, kind              string
	tags                        map[string]string
	identity, properties, other json.RawMessage
}

// otherMembers are the top-level members of resources that records keep beside
// those that have a field.
var otherMembers = []string{"sku", "zones", "plan", "extendedLocation", "managedBy"}

// resource reads the body as a resource.
func (r *Request) resource() (input, error) {
	var in input
	n, err := r.Tree()
	if err != nil {
		return in, err
	}
	if n.Kind != jsontree.Object {
		return in, arm.Errorf(arm.CodeInvalidJSON, "the request content must be a JSON object, not %s", n.Kind)
	}
	var body struct {
		Location string            `json:"location"`
		Kind     string            `json:"kind"`
		Tags     map[string]string `json:"tags"`
	}
	if err := r.Decode(&body); err != nil {
		return in, err
	}
	in.location, in.kind, in.tags = body.Location, body.Kind, body.Tags
	if err := CheckTags(in.tags); err != nil {
		return in, err
	}
	if v := n.Fold("identity"); v != nil && v.Kind == jsontree.Object {
		in.identity = v.Append(nil)
	}
	if v := n.Fold("properties"); v != nil && v.Kind != jsontree.Null {
		if v.Kind != jsontree.Object {
			return in, arm.Errorf(arm.CodeInvalidJSON, "'properties' must be an object, not %s", v.Kind).At("properties")
		}
		in.properties = v.Append(nil)
	}
	other := &jsontree.Node{Kind: jsontree.Object}
	for _, name := range otherMembers {
		if v := n.Fold(name); v != nil && v.Kind != jsontree.Null {
			other.Members = append(other.Members, jsontree.Member{Key: name, Value: v})
		}
	}
	if len(other.Members) > 0 {
		in.other = other.Append(nil)
	}
	return in, nil
}

// decodeProperties reads a properties object over p.
func decodeProperties(raw json.RawMessage, p *map[string]any) error {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(p); err != nil {
		return arm.Errorf(arm.CodeInvalidJSON, "the properties do not parse: %w", err).At("properties")
	}
	return nil
}

// CheckTags applies the limits of Azure: 50 tags, names of 512 characters without
// <>%&\?/, values of 256 characters.
func CheckTags(tags map[string]string) error {
	if len(tags) > 50 {
		return arm.Errorf(codeBadTag, "%d tags are too many: a resource has at most 50", len(tags)).At("tags")
	}
	seen := make([]string, 0, len(tags))
	for name, value := range tags {
		low := strings.ToLower(name)
		switch {
		case name == "" || len([]rune(name)) > 512 || strings.ContainsAny(name, `<>%&\?/`):
			return arm.Errorf(codeBadTag, "'%s' is not a tag name: it has 1 to 512 characters and none of <>%%&\\?/", clip(name)).At("tags")
		case len([]rune(value)) > 256:
			return arm.Errorf(codeBadTag, "the value of tag '%s' has more than 256 characters", clip(name)).At("tags")
		case slices.Contains(seen, low):
			return arm.Errorf(codeBadTag, "the tag '%s' is there twice: names differ by more than case", clip(name)).At("tags")
		}
		seen = append(seen, low)
	}
	return nil
}
