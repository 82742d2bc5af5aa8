package build

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/network"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/resource"
)

// checkIdentities refuses a template whose build VM gets identities when nobody
// here can issue their tokens.
func (e *Engine) checkIdentities(t *imagetemplate.Template) error {
	if len(t.VMProfile.Identities) > 0 && e.cfg.Tokens == nil {
		return arm.Errorf(arm.CodeNotSupported, "only the service issues tokens of managed identities: submit the template to goldsmith serve").
			At("/properties/vmProfile/userAssignedIdentities")
	}
	return nil
}

// vmIdentities are the identities that a template gives to its build VM.
func (e *Engine) vmIdentities(ctx context.Context, t *imagetemplate.Template) ([]imds.Identity, error) {
	if err := e.checkIdentities(t); err != nil {
		return nil, err
	}
	var all []imds.Identity
	for i, id := range t.VMProfile.Identities {
		m, err := e.managedIdentity(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("/properties/vmProfile/userAssignedIdentities/%d: %w", i, err)
		}
		all = append(all, imds.Identity{ID: id, PrincipalID: m.PrincipalID, ClientID: m.ClientID})
	}
	return all, nil
}

// identityKeys is what layers know of a machine's identities: one that was
// deleted and made anew under its name has other rights.
func identityKeys(all []imds.Identity) []string {
	var keys []string
	for _, i := range all {
		keys = append(keys, resource.Key(i.ID)+" "+strings.ToLower(i.PrincipalID))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// giveIdentities puts the metadata endpoint of the machine's identities, if it
// has any, into its network. Without, nobody answers at the endpoint's address.
func (l *launcher) giveIdentities(guest *vm, cfg *network.Config) {
	if len(l.identities) == 0 {
		return
	}
	guest.metadata = imds.New(l.identities, l.engine.cfg.Tokens)
	services := map[netip.AddrPort]network.Service{imds.Address: guest.metadata.Dial}
	maps.Copy(services, cfg.Services)
	cfg.Services = services
}

// closeMetadata ends the metadata endpoint, after the network.
func (v *vm) closeMetadata() error {
	if v.metadata == nil {
		return nil
	}
	err := v.metadata.Close()
	v.metadata = nil
	return err
}
