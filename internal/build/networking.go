package build

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/nsg"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

// WantedNetwork is the deployment on an existing network that a template of a
// subscription asks for; ok is false when it asks for none.
func WantedNetwork(t *imagetemplate.Template, subscription string, windows bool) (d vnet.Deployment, ok bool) {
	n := t.VMProfile.VNet
	if n == nil {
		return d, false
	}
	d = vnet.Deployment{SubnetID: n.SubnetID, ContainerSubnetID: n.ContainerSubnetID, Location: t.Location, Windows: windows}
	if n.ByName != nil {
		d.SubnetID = arm.ResourceID(subscription, n.ByName.Group, vnet.TypeSubnet, n.ByName.Name, n.ByName.Subnet)
	}
	return d, true
}

// networkMode keeps what was built on one network from being reused on another:
// what a step reaches there may differ.
func (e *Engine) networkMode(t *imagetemplate.Template) plan.NetworkMode {
	d, ok := WantedNetwork(t, e.subscription, false)
	if !ok {
		return plan.NetworkPrivate
	}
	return plan.NetworkMode("subnet " + resource.Key(d.SubnetID))
}

// NetworkSnapshot is every record that networks consist of or that may use one, and
// the addresses at which something is published.
func (e *Engine) NetworkSnapshot(ctx context.Context) (*vnet.Snapshot, error) {
	all, _, err := e.resources.List(ctx, resource.Query{Scope: "/subscriptions/" + e.subscription})
	if err != nil {
		return nil, err
	}
	var kept []resource.Record
	for _, r := range all {
		typ := strings.ToLower(r.Type)
		if strings.HasPrefix(typ, "microsoft.network/") || strings.HasPrefix(typ, "microsoft.compute/virtualmachines") || strings.HasPrefix(typ, "microsoft.containerinstance/") {
			kept = append(kept, r)
		}
	}
	return e.occupied(ctx, vnet.NewSnapshot(kept))
}

// LockNetworks lets nobody else give addresses of networks away, nor change them,
// until unlock is called.
func (e *Engine) LockNetworks(ctx context.Context) (unlock func(), err error) {
	return e.lock(ctx, "network", nil)
}

// checkNetwork is the networking document's checklist: every finding, each with
// the command that mends it.
func (e *Engine) checkNetwork(ctx context.Context, t *imagetemplate.Template, windows bool) error {
	d, ok := WantedNetwork(t, e.subscription, windows)
	if !ok {
		return nil
	}
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return err
	}
	if size := t.VMProfile.VNet.ProxyVMSize; size != "" {
		if _, err := e.cfg.Host.Sizes.Lookup(size); err != nil {
			return arm.Errorf(arm.CodeValidationFailed, "proxyVmSize: %w", err)
		}
	}
	return errors.Join(joinFindings(vnet.Checklist(s, d)), e.checkBridge(d.SubnetID))
}

func joinFindings(found []vnet.Finding) error {
	var errs []error
	for _, f := range found {
		errs = append(errs, f.Err())
	}
	return errors.Join(errs...)
}

// tagsOf are the service tags within a network: of the balancer at frontend too,
// if there is one.
func tagsOf(s *vnet.Snapshot, n vnet.Network, frontend netip.Addr) nsg.Tags {
	tags := s.Tags(n)
	if frontend.IsValid() {
		tags[nsg.TagLoadBalancer] = []netip.Prefix{netip.PrefixFrom(frontend, frontend.BitLen())}
	}
	return tags
}

// subnetPolicy is what the group of a subnet says about a card in it.
func subnetPolicy(s *vnet.Snapshot, sub vnet.Subnet, tags nsg.Tags) (*nsg.Policy, error) {
	if sub.Group == "" {
		return nsg.Compile(tags, nil, nil), nil
	}
	g, err := s.Group(sub.Group)
	if err != nil {
		return nil, err
	}
	return nsg.Compile(tags, &g, nil), nil
}

// PutNetworkResource judges a resource of Microsoft.Network, gives it the
// addresses that it does not choose itself, and stores it. Its group is made when
// it is missing.
func (e *Engine) PutNetworkResource(ctx context.Context, rec resource.Record) (resource.Record, error) {
	id, err := arm.ParseID(rec.ID)
	if err != nil {
		return rec, err
	}
	if !strings.EqualFold(id.Type, rec.Type) || !strings.HasPrefix(strings.ToLower(rec.Type), "microsoft.network/") {
		return rec, arm.Errorf(arm.CodeValidationFailed, "type %q is not the type of a network resource with this id", rec.Type).At(rec.ID)
	}
	rec.Name = id.Name
	unlock, err := e.LockNetworks(ctx)
	if err != nil {
		return rec, err
	}
	defer unlock()
	snapshot, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return rec, err
	}
	if rec, err = snapshot.Put(rec); err != nil {
		return rec, err
	}
	_, err = e.resources.Get(ctx, id.GroupID())
	if arm.IsCode(err, arm.CodeNotFound) {
		err = e.putResource(ctx, id.GroupID(), distribute.TypeGroup, rec.Location, nil, map[string]any{"provisioningState": "Succeeded"})
	}
	if err != nil {
		return rec, err
	}
	stored, _, err := e.resources.Put(ctx, rec, resource.Condition{})
	return stored, err
}
