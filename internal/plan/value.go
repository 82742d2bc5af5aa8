package plan

import (
	"cmp"
	"maps"
	"regexp"
	"slices"

	"goldsmith/internal/arm"
)

// Value is a parameter or a secret of one run as the plan knows it.
type Value struct {
	Name   string `json:"name"`
	Secret bool   `json:"secret,omitempty"`
	// Content is a parameter's value. A secret's is never part of a plan.
	Content string `json:"content,omitempty"`
	// Version tells one content of a secret from another, for layer keys; "" when
	// the user did not give one.
	Version string `json:"version,omitempty"`
}

var (
	valueName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	word      = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
)

// reservedNames mean something to the guest's shell or loader.
var reservedNames = []string{"PATH", "HOME", "USER", "SHELL", "IFS", "ENV", "BASH_ENV", "PS4", "LD_PRELOAD", "LD_LIBRARY_PATH", "GOLDSMITH_VALUES"}

// CheckValueName is the error of a name that no parameter or secret can have: it
// becomes an environment variable and a file.
func CheckValueName(name string) error {
	if !valueName.MatchString(name) || slices.Contains(reservedNames, name) {
		return arm.Errorf(arm.CodeUsage, "%q cannot name a parameter or secret: use letters, digits and _, not a digit first, and no name that the shell uses itself", name)
	}
	return nil
}

// used are the values whose names stand in text as words, by name.
func used(values map[string]Value, text string) []Value {
	if len(values) == 0 {
		return nil
	}
	found := map[string]Value{}
	for _, w := range word.FindAllString(text, -1) {
		if v, ok := values[w]; ok {
			found[w] = v
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Value) int { return cmp.Compare(a.Name, b.Name) })
}

// Secrets are the names of the secrets that the step is given.
func (s Step) Secrets() []string {
	var names []string
	for _, v := range s.Values {
		if v.Secret {
			names = append(names, v.Name)
		}
	}
	return names
}
