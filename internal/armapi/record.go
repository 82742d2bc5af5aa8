package armapi

import (
	"encoding/json"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Resource is a record as the body of its resource: id, name, type, location,
// tags, kind, the record's other members, identity, properties.
func Resource(rec resource.Record) (json.RawMessage, error) {
	b := make([]byte, 0, len(rec.Properties)+len(rec.Other)+512)
	member := func(name string, v any) error {
		raw, ok := v.(json.RawMessage)
		if !ok {
			var err error
			if raw, err = json.Marshal(v); err != nil {
				return err
			}
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(append(b, name...), `":`...)
		b = append(b, raw...)
		return nil
	}
	err := member("id", rec.ID)
	for _, m := range []struct {
		name string
		v    any
		show bool
	}{
		{"name", rec.Name, true},
		{"type", rec.Type, true},
		{"location", rec.Location, rec.Location != ""},
		{"tags", rec.Tags, len(rec.Tags) > 0 || (rec.Location != "" && rec.Tags != nil)},
		{"kind", rec.Kind, rec.Kind != ""},
		{"identity", rec.Identity, rec.Identity != nil},
		{"properties", rec.Properties, rec.Properties != nil},
	} {
		if err == nil && m.show {
			err = member(m.name, m.v)
		}
	}
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "encode %s: %w", rec.ID, err)
	}
	if inner := objectMembers(rec.Other); len(inner) > 0 {
		b = append(append(b, ','), inner...)
	}
	return append(append([]byte{'{'}, b...), '}'), nil
}

// objectMembers is what stands between the braces of a JSON object.
func objectMembers(object json.RawMessage) []byte {
	if len(object) < 2 {
		return nil
	}
	inner := object[1 : len(object)-1]
	for _, c := range inner {
		if c == '"' {
			return inner
		}
	}
	return nil
}
