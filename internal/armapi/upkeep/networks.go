package upkeep

import (
	"context"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

// networks are those that the caller may read.
func (u upkeep) networks(ctx context.Context, r *armapi.Request, _ Input) ([]build.VirtualNetwork, error) {
	all, err := u.engine.VirtualNetworks(ctx)
	if err != nil {
		return nil, err
	}
	out := []build.VirtualNetwork{}
	for _, n := range all {
		if ok, err := r.Sees(ctx, vnet.TypeNetwork+"/read", n.ID); err != nil {
			return nil, err
		} else if ok {
			out = append(out, n)
		}
	}
	return out, nil
}

// reach tells whether a network's rules let a connection pass, to who may read the
// network.
func (u upkeep) reach(ctx context.Context, r *armapi.Request, in Input) (build.Reached, error) {
	if in.Reach == nil {
		return build.Reached{}, arm.Errorf(arm.CodeUsage, "say between what the rules are asked for")
	}
	if err := see(ctx, r, resource.Record{ID: in.Reach.Network, Type: vnet.TypeNetwork}, in.Reach.Network); err != nil {
		return build.Reached{}, err
	}
	return u.engine.Reach(ctx, *in.Reach)
}
