package identity

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/rbac"
)

// AddMember puts a principal into a group; one that is in it stays. Groups may
// be in groups. The error is CodeNotFound when there is no such group, and
// CodeValidationFailed when it is no group or the member itself.
func (d *Directory) AddMember(ctx context.Context, group, member string) error {
	g, err := d.Get(ctx, group)
	if err != nil {
		return err
	}
	if g.Kind != Group {
		return arm.Errorf(arm.CodeValidationFailed, "%s is a %s: only a group has members", g.Name, g.Kind)
	}
	if strings.EqualFold(group, member) {
		return arm.Errorf(arm.CodeValidationFailed, "the group %s cannot be a member of itself", g.Name)
	}
	_, err = d.Memberships.Put(ctx, rbac.Membership{Member: member, Group: group}.Key(), json.RawMessage(`{}`), document.Condition{})
	return err
}

// RemoveMember takes a principal out of a group. The error is CodeNotFound when
// it is not in it.
func (d *Directory) RemoveMember(ctx context.Context, group, member string) error {
	err := d.Memberships.Delete(ctx, rbac.Membership{Member: member, Group: group}.Key(), document.Condition{})
	if arm.IsCode(err, arm.CodeNotFound) {
		return arm.Errorf(arm.CodeNotFound, "%s is not a member of the group %s", member, group)
	}
	return err
}

// memberships are all that there are.
func (d *Directory) memberships(ctx context.Context) ([]rbac.Membership, error) {
	records, err := d.Memberships.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []rbac.Membership
	for _, r := range records {
		if m, ok := rbac.ParseMembership(r.Key); ok {
			all = append(all, m)
		}
	}
	return all, nil
}

// groupsOf are the groups of one principal, those included that it is in by
// another group. It reads no more than these.
func (d *Directory) groupsOf(ctx context.Context, member string) ([]string, error) {
	found := []string{strings.ToLower(member)}
	for i := 0; i < len(found); i++ { // grows while it is walked
		records, err := d.Memberships.List(ctx, found[i]+"/")
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if m, ok := rbac.ParseMembership(r.Key); ok && !slices.Contains(found, m.Group) {
				found = append(found, m.Group)
			}
		}
	}
	return slices.Sorted(slices.Values(found[1:])), nil
}

// leave removes every membership of a principal or group that is deleted.
func (d *Directory) leave(ctx context.Context, id string) error {
	all, err := d.memberships(ctx)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Member != id && m.Group != id {
			continue
		}
		if err := d.Memberships.Delete(ctx, m.Key(), document.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return err
		}
	}
	return nil
}
