package identity

import (
	"testing"
)

func FuzzToken(f *testing.F) {
	s, p, _, _ := tenantFor(f)
	good, err := s.issue(f.Context(), p, base, "", "", accessLifetime)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, good[:len(good)-2], "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "", "{}", `{"payload":"e30","signatures":[{},{}]}`} {
		f.Add(seed)
	}
	arms := s.Management()
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := arms.Token(t.Context(), raw)
		if err == nil && c.ObjectID != p.ID {
			t.Fatalf("%q is %+v", raw, c)
		}
		if err != nil && !Unauthenticated(err) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"", "appId eq 'x'", "servicePrincipalNames/any(c:c eq 'x''y') and id eq ''", "a eq 'b' and ", "id eq 'x' and id eq"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := parseFilter(s)
		if err == nil && len(filter) > 0 && filter.matches(Principal{}) {
			t.Fatalf("%q matches a principal without anything", s)
		}
	})
}
