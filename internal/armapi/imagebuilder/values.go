package imagebuilder

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
)

// runValues are the parameters and secrets of a run: an extension of the action
// run, whose body the real service ignores.
//
//	{"goldsmith": {"parameters": {"NAME": "value"}, "secrets": {"NAME": {"value": "...", "version": "1"}}}}
func runValues(body []byte) ([]build.GivenValue, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var request struct {
		Goldsmith struct {
			Parameters map[string]string `json:"parameters"`
			Secrets    map[string]struct {
				Value   string `json:"value"`
				Version string `json:"version"`
			} `json:"secrets"`
		} `json:"goldsmith"`
	}
	var any map[string]json.RawMessage
	if json.Unmarshal(body, &any) != nil || any["goldsmith"] == nil {
		return nil, nil // as the real service takes it
	}
	if err := json.Unmarshal(body, &request); err != nil {
		// The body holds secrets: what is wrong with it is not repeated.
		return nil, arm.Errorf(arm.CodeValidationFailed, "goldsmith.parameters are texts by name, and goldsmith.secrets objects with value and version").At("/goldsmith")
	}
	var values []build.GivenValue
	for name, v := range request.Goldsmith.Parameters {
		values = append(values, build.GivenValue{Name: name, Content: []byte(v)})
	}
	for name, v := range request.Goldsmith.Secrets {
		values = append(values, build.GivenValue{Name: name, Content: []byte(v.Value), Secret: true, Version: v.Version})
	}
	slices.SortFunc(values, func(a, b build.GivenValue) int { return cmp.Compare(a.Name, b.Name) })
	return values, nil
}
