package rbac

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	sub   = "/subscriptions/11111111-1111-1111-1111-111111111111"
	group = sub + "/resourceGroups/images"
	alice = "aaaaaaaa-0000-0000-0000-000000000001"
	team  = "aaaaaaaa-0000-0000-0000-0000000000ff"
)

func custom(n int, name string, p ...Permission) Role {
	return Role{
		ID:       fmt.Sprintf("%s/providers/%s/00000000-0000-0000-0000-%012d", sub, TypeRole, n),
		RoleName: name, AssignableScopes: []string{sub}, Permissions: p,
	}
}

func assign(n int, principal, role, scope string) Assignment {
	return Assignment{
		ID:    fmt.Sprintf("%s/providers/%s/10000000-0000-0000-0000-%012d", scope, TypeAssignment, n),
		Scope: scope, Role: role, Principal: principal,
	}
}

func TestCheck(t *testing.T) {
	const (
		gallery   = group + "/providers/Microsoft.Compute/galleries/gal"
		container = group + "/providers/Microsoft.Storage/storageAccounts/acct/blobServices/default/containers/scripts"
		blobRead  = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
		staging   = sub + "/resourceGroups/IT_rg_tmpl_12345678-abcd-ef01-2345-6789abcdef01"
	)
	imageRole := custom(1, "images", Permission{Actions: []string{"Microsoft.Compute/images/*"}, NotActions: []string{"Microsoft.Compute/images/delete"}})
	deleter := custom(2, "deleter", Permission{Actions: []string{"Microsoft.Compute/images/delete"}})
	for _, tt := range []struct {
		name        string
		assignments []Assignment
		request     Request
		registered  []string
		role        string // "" denied
	}{
		{"nothing is granted", nil, Request{Principal: alice, Action: "Microsoft.Compute/images/read", Scope: group}, nil, ""},
		{"at the group", []Assignment{assign(1, alice, imageRole.ID, group)}, Request{Principal: alice, Action: "microsoft.compute/IMAGES/Write", Scope: group + "/providers/Microsoft.Compute/images/x"}, nil, "images"},
		{"NotActions subtract", []Assignment{assign(1, alice, imageRole.ID, group)}, Request{Principal: alice, Action: "Microsoft.Compute/images/delete", Scope: group}, nil, ""},
		{"NotActions are no denial", []Assignment{assign(1, alice, imageRole.ID, group), assign(2, alice, deleter.ID, group)}, Request{Principal: alice, Action: "Microsoft.Compute/images/delete", Scope: group}, nil, "deleter"},
		{"from the subscription down", []Assignment{assign(1, alice, Reader, sub)}, Request{Principal: alice, Action: "Microsoft.Compute/galleries/read", Scope: gallery}, nil, "Reader"},
		{"from the root down", []Assignment{assign(1, alice, Reader, "/")}, Request{Principal: alice, Action: "Microsoft.Compute/galleries/read", Scope: gallery}, nil, "Reader"},
		{"not upward", []Assignment{assign(1, alice, Reader, gallery)}, Request{Principal: alice, Action: "Microsoft.Compute/galleries/read", Scope: group}, nil, ""},
		{"not beside", []Assignment{assign(1, alice, Reader, group)}, Request{Principal: alice, Action: "Microsoft.Compute/galleries/read", Scope: group + "2"}, nil, ""},
		{"a sub-resource", []Assignment{assign(1, alice, StorageBlobDataReader, container)}, Request{Principal: alice, Action: blobRead, Scope: container, Data: true}, nil, "Storage Blob Data Reader"},
		{"below the sub-resource", []Assignment{assign(1, alice, StorageBlobDataReader, container)}, Request{Principal: alice, Action: blobRead, Scope: container + "/blobs/a/b.sh", Data: true}, nil, "Storage Blob Data Reader"},
		{"another container", []Assignment{assign(1, alice, StorageBlobDataReader, container)}, Request{Principal: alice, Action: blobRead, Scope: container + "2", Data: true}, nil, ""},
		{"a control action is no data action", []Assignment{assign(1, alice, Owner, sub)}, Request{Principal: alice, Action: blobRead, Scope: container, Data: true}, nil, ""},
		{"a data action is no control action", []Assignment{assign(1, alice, StorageBlobDataReader, sub)}, Request{Principal: alice, Action: blobRead, Scope: container}, nil, ""},
		{"by a group", []Assignment{assign(1, team, Contributor, group)}, Request{Principal: alice, Groups: []string{strings.ToUpper(team)}, Action: "Microsoft.Compute/images/write", Scope: group}, nil, "Contributor"},
		{"Contributor grants nobody access", []Assignment{assign(1, alice, Contributor, group)}, Request{Principal: alice, Action: "Microsoft.Authorization/roleAssignments/write", Scope: group}, nil, ""},
		{"a star between slashes stands for nothing too", []Assignment{assign(1, alice, ManagedIdentityOperator, group)}, Request{Principal: alice, Action: "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", Scope: group}, nil, "Managed Identity Operator"},
		{"a role that is gone", []Assignment{assign(1, alice, "00000000-0000-0000-0000-00000000dead", group)}, Request{Principal: alice, Action: "Microsoft.Compute/images/read", Scope: group}, nil, ""},
		{"a condition", []Assignment{{ID: "x", Scope: group, Role: Owner, Principal: alice, Condition: "@Resource[x] eq 'y'"}}, Request{Principal: alice, Action: "Microsoft.Compute/images/read", Scope: group}, nil, ""},
		{"names of any script", []Assignment{assign(1, alice, Reader, sub+"/resourceGroups/ÄPFEL")}, Request{Principal: alice, Action: "Microsoft.Compute/images/read", Scope: sub + "/resourceGroups/äpfel/providers/Microsoft.Compute/images/x"}, nil, "Reader"},
		{"a scope longer than any", []Assignment{assign(1, alice, Reader, sub)}, Request{Principal: alice, Action: "x/read", Scope: sub + "/" + strings.Repeat("LONG/", 500)}, nil, "Reader"},
		{"an empty scope", []Assignment{assign(1, alice, Reader, sub)}, Request{Principal: alice, Action: "x/read"}, nil, ""},
		{"staging, unregistered", nil, Request{Principal: BuilderObject, Action: "Microsoft.Resources/subscriptions/resourceGroups/write", Scope: staging}, nil, ""},
		{"staging, registered", nil, Request{Principal: BuilderObject, Action: "Microsoft.Resources/subscriptions/resourceGroups/write", Scope: staging}, []string{sub[len("/subscriptions/"):]}, StagingRole},
		{"in staging", nil, Request{Principal: BuilderObject, Action: "Microsoft.Compute/virtualMachines/write", Scope: staging + "/providers/Microsoft.Compute/virtualMachines/vm"}, []string{sub[len("/subscriptions/"):]}, StagingRole},
		{"somebody else in staging", nil, Request{Principal: alice, Action: "Microsoft.Compute/virtualMachines/write", Scope: staging}, []string{sub[len("/subscriptions/"):]}, ""},
		{"a group that begins like staging", nil, Request{Principal: BuilderObject, Action: "Microsoft.Compute/images/write", Scope: sub + "/resourceGroups/IT_department"}, []string{sub[len("/subscriptions/"):]}, ""},
		{"any other group", nil, Request{Principal: BuilderObject, Action: "Microsoft.Compute/images/write", Scope: group}, []string{sub[len("/subscriptions/"):]}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Compile(State{Roles: []Role{imageRole, deleter}, Assignments: tt.assignments, Registered: tt.registered})
			d := p.Check(tt.request)
			if d.Allowed != (tt.role != "") || d.Role != tt.role || d.Allowed != (d.Assignment != "") {
				t.Errorf("decision %+v, want role %q", d, tt.role)
			}
		})
	}
}

func TestMembersOfGroups(t *testing.T) {
	const outer = "aaaaaaaa-0000-0000-0000-0000000000fe"
	r := Request{Principal: strings.ToUpper(alice), Action: "Microsoft.Compute/images/read", Scope: group}
	for _, tt := range []struct {
		name    string
		members []Membership
		allowed bool
	}{
		{"nobody", nil, false},
		{"another one", []Membership{{"aaaaaaaa-0000-0000-0000-000000000002", outer}}, false},
		{"a member", []Membership{{alice, strings.ToUpper(outer)}}, true},
		{"a member of a member", []Membership{{alice, team}, {team, outer}}, true},
		{"groups in each other", []Membership{{team, outer}, {outer, team}, {alice, team}}, true},
		{"the other way", []Membership{{outer, alice}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Compile(State{Assignments: []Assignment{assign(1, outer, Reader, group)}, Memberships: tt.members})
			if got := p.Check(r).Allowed; got != tt.allowed {
				t.Errorf("allowed: %v", got)
			}
		})
	}
	for _, m := range []Membership{{alice, team}, {"", team}, {alice, ""}} {
		if got, ok := ParseMembership(m.Key()); ok != (m == Membership{alice, team}) || ok && got != m {
			t.Errorf("%+v is %+v, %v", m, got, ok)
		}
	}
}

func TestWidestAssignmentIsNamed(t *testing.T) {
	wide, narrow := assign(2, alice, Reader, sub), assign(1, alice, Reader, group)
	d := Compile(State{Assignments: []Assignment{narrow, wide}}).Check(Request{Principal: alice, Action: "a/read", Scope: group})
	if diff := cmp.Diff(Decision{Allowed: true, Assignment: wide.ID, Role: "Reader"}, d); diff != "" {
		t.Error(diff)
	}
}

// slowMatch is matching by its definition, character by character.
func slowMatch(pattern, action string) bool {
	if strings.HasPrefix(pattern, "/*/") && slowMatch("/"+pattern[3:], action) {
		return true
	}
	switch {
	case pattern == "":
		return action == ""
	case pattern[0] == '*':
		return slowMatch(pattern[1:], action) || action != "" && slowMatch(pattern, action[1:])
	}
	return action != "" && pattern[0] == action[0] && slowMatch(pattern[1:], action[1:])
}

var (
	actionGen  = rapid.StringMatching(`(ns|mx)(/(a|b|ab|ba)){1,3}/(read|write)`)
	patternGen = rapid.StringMatching(`(\*|ns|mx)(/(a|b|ab|ba|\*)){0,3}/(read|write|\*)`)
)

func TestPatternsMatchLikeTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a := patternGen.Draw(t, "pattern"), actionGen.Draw(t, "action")
		if got, want := matchesAny(compilePatterns([]string{p}), []byte(a)), slowMatch(p, a); got != want {
			t.Fatalf("%q matches %q: %v, want %v", p, a, got, want)
		}
	})
}

// slowCheck is Check by its definition.
func slowCheck(s State, r Request) bool {
	for _, a := range s.Assignments {
		if !contains(everybody(s, r), a.Principal) || !Covers(a.Scope, r.Scope) {
			continue
		}
		for _, role := range s.Roles {
			if role.ID != a.Role {
				continue
			}
			for _, p := range role.Permissions {
				in, out := p.Actions, p.NotActions
				if r.Data {
					in, out = p.DataActions, p.NotDataActions
				}
				if anySlow(in, r.Action) && !anySlow(out, r.Action) {
					return true
				}
			}
		}
	}
	return false
}

// everybody are the principal and all groups that it is in.
func everybody(s State, r Request) []string {
	all := append([]string{r.Principal}, r.Groups...)
	for grown := true; grown; {
		grown = false
		for _, m := range s.Memberships {
			if contains(all, m.Member) && !contains(all, m.Group) {
				all, grown = append(all, m.Group), true
			}
		}
	}
	return all
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func anySlow(patterns []string, action string) bool {
	for _, p := range patterns {
		if slowMatch(p, action) {
			return true
		}
	}
	return false
}

var (
	scopeGen     = rapid.StringMatching(`/subscriptions/[12](/resourceGroups/[ab](/providers/n/t/[xy](/u/[zw])?)?)?`)
	principalGen = rapid.SampledFrom([]string{"p1", "p2", "g1", "g2"})
	listGen      = rapid.SliceOfN(patternGen, 0, 3)
)

func drawState(t *rapid.T) State {
	var s State
	for i := range rapid.IntRange(1, 4).Draw(t, "roles") {
		s.Roles = append(s.Roles, custom(i, fmt.Sprint("role", i), Permission{
			Actions: listGen.Draw(t, "actions"), NotActions: listGen.Draw(t, "notActions"),
			DataActions: listGen.Draw(t, "dataActions"), NotDataActions: listGen.Draw(t, "notDataActions"),
		}))
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "assignments") {
		s.Assignments = append(s.Assignments, assign(i, principalGen.Draw(t, "principal"),
			s.Roles[rapid.IntRange(0, len(s.Roles)-1).Draw(t, "role")].ID, scopeGen.Draw(t, "scope")))
	}
	for range rapid.IntRange(0, 4).Draw(t, "memberships") {
		s.Memberships = append(s.Memberships, Membership{principalGen.Draw(t, "member"), principalGen.Draw(t, "of")})
	}
	return s
}

func drawRequest(t *rapid.T) Request {
	return Request{
		Principal: principalGen.Draw(t, "who"), Groups: rapid.SliceOfN(principalGen, 0, 2).Draw(t, "groups"),
		Action: actionGen.Draw(t, "action"), Scope: scopeGen.Draw(t, "on"), Data: rapid.Bool().Draw(t, "data"),
	}
}

func TestPolicyDecidesLikeItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := drawState(t), drawRequest(t)
		d := Compile(s).Check(r)
		if want := slowCheck(s, r); d.Allowed != want {
			t.Fatalf("allowed %v, want %v", d.Allowed, want)
		}
		if d.Allowed == (d.Assignment == "") {
			t.Fatalf("decision %+v names no assignment or one too many", d)
		}
	})
}

func TestCaseDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := drawState(t), drawRequest(t)
		want := Compile(s).Check(r).Allowed
		r.Principal, r.Action, r.Scope = strings.ToUpper(r.Principal), strings.ToUpper(r.Action), strings.ToUpper(r.Scope)
		if got := Compile(s).Check(r).Allowed; got != want {
			t.Fatalf("in capitals it is %v, and %v otherwise", got, want)
		}
	})
}

func TestMoreAssignmentsNeverDeny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := drawState(t), drawRequest(t)
		before := Compile(s).Check(r).Allowed
		s.Assignments = append(s.Assignments, assign(99, principalGen.Draw(t, "more"), s.Roles[0].ID, scopeGen.Draw(t, "at")))
		if after := Compile(s).Check(r).Allowed; before && !after {
			t.Fatal("an assignment more took a right away")
		}
	})
}

func TestARightReachesEverythingBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := drawState(t), drawRequest(t)
		p := Compile(s)
		above := p.Check(r).Allowed
		r.Scope += "/" + rapid.StringMatching(`[a-z]{1,3}(/[a-z]{1,3}){0,2}`).Draw(t, "below")
		if above && !p.Check(r).Allowed {
			t.Fatal("a right at a scope does not hold below it")
		}
	})
}
