package imagebuilder

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build"
)

func TestRunValues(t *testing.T) {
	for body, want := range map[string][]build.GivenValue{
		"":                    nil,
		"{}":                  nil,
		"not json":            nil,
		`{"anything": ["x"]}`: nil,
		`{"goldsmith": {"parameters": {"B": "2"}, "secrets": {"A": {"value": "s", "version": "1"}}}}`: {
			{Name: "A", Content: []byte("s"), Secret: true, Version: "1"}, {Name: "B", Content: []byte("2")},
		},
	} {
		got, err := runValues([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	_, err := runValues([]byte(`{"goldsmith": {"secrets": {"A": "hunter2"}}}`))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret in the wrong form: %v", err)
	}
}
