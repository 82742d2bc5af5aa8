package filter

import (
	"strings"
	"testing"

	"goldsmith/internal/arm"
)

func TestMatch(t *testing.T) {
	facts := map[string]string{"name": "a", "type": "it's", "tags/x": "1"}
	holds := func(t Term) (bool, error) {
		if t.Call {
			switch strings.ToLower(t.Name) {
			case "yes":
				return true, nil
			case "startswith":
				return strings.HasPrefix(facts[t.Args[0]], t.Args[1]), nil
			}
			return false, Unknown(t)
		}
		v, ok := facts[t.Name]
		if !ok {
			return false, Unknown(t)
		}
		return v == t.Args[0], nil
	}
	for _, tc := range []struct {
		text string
		want bool
		bad  string
	}{
		{"", true, ""},
		{"name eq 'a'", true, ""},
		{"name EQ 'b'", false, ""},
		{"name ne 'b'", true, ""},
		{"type eq 'it''s'", true, ""},
		{"yes()", true, ""},
		{"yes() and name eq 'b'", false, ""},
		{"name eq 'b' or yes()", true, ""},
		{"name eq 'b' and yes() or name eq 'a'", true, ""},
		{"name eq 'b' and (yes() or name eq 'a')", false, ""},
		{"not (name eq 'b')", true, ""},
		{"startswith(name, 'a') eq true", true, ""},
		{"tags/x eq '1'", true, ""},
		{"tags/x eq 1", true, ""},
		{"andy eq 'a'", false, "cannot ask for 'andy'"},
		{"no()", false, "cannot ask for 'no'"},
		{"name", false, "'eq' or 'ne' is expected"},
		{"name eq", false, "a value in quotes"},
		{"name eq 'a", false, "closing quote"},
		{"name eq 'a' name", false, "'and', 'or' or the end"},
		{"(name eq 'a'", false, "')' is expected"},
		{"yes(", false, "a value in quotes"},
		{"yes('a' 'b')", false, "',' or ')'"},
		{strings.Repeat("(", 50) + "yes()" + strings.Repeat(")", 50), false, "nested too deep"},
		{strings.Repeat("x", 10_000), false, "at most 8192"},
	} {
		e, err := Parse(tc.text)
		var got bool
		if err == nil {
			got, err = e.Match(holds)
		}
		if (err != nil) != (tc.bad != "") || (err != nil && (!strings.Contains(err.Error(), tc.bad) || arm.CodeOf(err) != arm.CodeValidationFailed)) {
			t.Errorf("%.60q: error %v, want %q", tc.text, err, tc.bad)
		}
		if got != tc.want {
			t.Errorf("%.60q is %t", tc.text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a eq 'b'", "atScope() and assignedTo('x')", "not (a ne 'it''s' or f(1, 'b'))", "((((", "a eq"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			if arm.CodeOf(err) != arm.CodeValidationFailed {
				t.Fatal(err)
			}
			return
		}
		terms := e.Terms()
		asked := 0
		if _, err := e.Match(func(Term) (bool, error) { asked++; return true, nil }); err != nil || asked > len(terms) {
			t.Fatalf("%d of %d terms, %v", asked, len(terms), err)
		}
	})
}
