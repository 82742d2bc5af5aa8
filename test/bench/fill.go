package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"goldsmith/internal/authorization"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/server"
	"goldsmith/internal/store"
)

// What a full store holds: 50,000 resources and 5,000 role assignments.
const (
	fillGroups      = 50
	fillIdentities  = 900 // of each group
	fillTemplates   = 100 // of each group
	fillAssignments = 100 // of each group
)

const (
	typeGroup    = "Microsoft.Resources/resourceGroups"
	typeIdentity = "Microsoft.ManagedIdentity/userAssignedIdentities"
	typeTemplate = "Microsoft.VirtualMachineImages/imageTemplates"
)

func groupName(i int) string    { return fmt.Sprintf("group%03d", i) }
func templateName(i int) string { return fmt.Sprintf("template%05d", i) }

// filler writes straight to the store of a data directory.
type filler struct {
	db           *store.DB
	subscription string
}

// filling runs f on the store of the data directory.
func filling(ctx context.Context, data string, f func(filler) error) (err error) {
	d, err := server.ReadDescription(data)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, filepath.Join(data, "goldsmith.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(filler{db, d.Subscription})
}

func (f filler) group(i int) string {
	return "/subscriptions/" + f.subscription + "/resourceGroups/" + groupName(i)
}

func (f filler) put(ctx context.Context, id, typ, name string, properties any) error {
	raw, err := json.Marshal(properties)
	if err != nil {
		return err
	}
	_, _, err = f.db.Resources().Put(ctx, resource.Record{ID: id, Type: typ, Name: name, Location: "westus2", Properties: raw}, resource.Condition{})
	return err
}

func (f filler) assign(ctx context.Context, group, i int, principal, role string) error {
	name := fmt.Sprintf("00000000-0000-0000-%04d-%012d", group, i)
	return f.put(ctx, f.group(group)+"/providers/"+rbac.TypeAssignment+"/"+name, rbac.TypeAssignment, name, map[string]any{
		"principalId": principal, "scope": f.group(group), "roleDefinitionId": "/providers/" + rbac.TypeRole + "/" + role,
	})
}

// users makes the load client's principal and the identity of the templates, who
// may do everything in each group, and the groups.
func (l *loading) users(ctx context.Context) error {
	return filling(ctx, l.data, func(f filler) error {
		directory := identity.Directory{Principals: f.db.Documents(identity.Principals), Memberships: f.db.Documents(authorization.Memberships), Resources: f.db.Resources()}
		p, err := directory.Create(ctx, identity.Principal{Kind: identity.ServicePrincipal, Name: "load"})
		if err != nil {
			return err
		}
		l.app = p.App
		if l.secret, err = directory.ResetSecret(ctx, p.ID, identity.DefaultSecretLifetime); err != nil {
			return err
		}
		const object = "00000000-0000-0000-0000-00000000000a"
		l.identity = f.group(0) + "/providers/" + typeIdentity + "/builder"
		for i := range fillGroups + 1 {
			if err := errors.Join(
				f.put(ctx, f.group(i), typeGroup, groupName(i), map[string]any{"provisioningState": "Succeeded"}),
				f.assign(ctx, i, 0, p.ID, rbac.Contributor), f.assign(ctx, i, 1, object, rbac.Contributor),
			); err != nil {
				return err
			}
		}
		return errors.Join(
			f.put(ctx, l.identity, typeIdentity, "builder", map[string]any{"principalId": object, "clientId": object, "tenantId": object}),
			f.put(ctx, "/subscriptions/"+f.subscription+"/providers/Microsoft.VirtualMachineImages", "Microsoft.Resources/providers", "Microsoft.VirtualMachineImages",
				map[string]any{"registrationState": "Registered"}),
		)
	})
}

// fillStore fills the groups from one number to before another with identities, copies
// of the model template, and assignments to people who never come.
func fillStore(ctx context.Context, l *loading, from, to int) error {
	return filling(ctx, l.data, func(f filler) error {
		model, err := f.db.Resources().Get(ctx, f.group(0)+"/providers/"+typeTemplate+"/"+templateName(0))
		if err != nil {
			return err
		}
		for g := from; g < to; g++ {
			for i := range fillIdentities {
				name := fmt.Sprintf("identity%03d", i)
				err := f.put(ctx, f.group(g)+"/providers/"+typeIdentity+"/"+name, typeIdentity, name, map[string]any{"principalId": "", "clientId": "", "tenantId": ""})
				if err != nil {
					return err
				}
			}
			for i := range fillTemplates {
				copied := model
				copied.Name = templateName(i)
				copied.ID = f.group(g) + "/providers/" + typeTemplate + "/" + copied.Name
				if _, _, err := f.db.Resources().Put(ctx, copied, resource.Condition{}); err != nil {
					return err
				}
			}
			for i := 2; i < fillAssignments; i++ {
				if err := f.assign(ctx, g, i, fmt.Sprintf("00000000-0000-%04d-0000-%012d", g, i), rbac.Reader); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
