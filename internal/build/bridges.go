package build

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/network"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

// BridgedSubnet maps a subnet of the subscription to a bridge of the host: build VMs
// in it reach the hosts on the bridge.
type BridgedSubnet struct {
	Group, Network, Subnet string
	Bridge                 string // name of the host's bridge
}

// ParseBridgedSubnet reads GROUP/NAME/SUBNET=BRIDGE. The error is arm.CodeUsage.
func ParseBridgedSubnet(text string) (b BridgedSubnet, err error) {
	subnet, bridge, ok := strings.Cut(text, "=")
	parts := strings.Split(subnet, "/")
	if !ok || bridge == "" || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return b, arm.Errorf(arm.CodeUsage, "%q is not GROUP/NAME/SUBNET=BRIDGE, such as networks/corp/build=br0", text)
	}
	return BridgedSubnet{parts[0], parts[1], parts[2], bridge}, nil
}

// String is the subnet, as it is given.
func (b BridgedSubnet) String() string { return b.Group + "/" + b.Network + "/" + b.Subnet }

// Check says why machines of this process cannot be put on the bridge. The error is
// arm.CodeUsage.
func (b BridgedSubnet) Check() error {
	if err := network.CheckBridge(b.Bridge); err != nil {
		return arm.Errorf(arm.CodeUsage, "subnet %v is on a bridge: %w", b, err)
	}
	return nil
}

func (b BridgedSubnet) id(subscription string) string {
	return arm.ResourceID(subscription, b.Group, vnet.TypeSubnet, b.Network, b.Subnet)
}

// bridgeOf is the mapping of the subnet with id; ok is false when it is on no
// bridge.
func (e *Engine) bridgeOf(subnetID string) (BridgedSubnet, bool) {
	for _, b := range e.cfg.Bridges {
		if resource.Key(b.id(e.subscription)) == resource.Key(subnetID) {
			return b, true
		}
	}
	return BridgedSubnet{}, false
}

// checkBridge says why a build in a subnet cannot be on its bridge; nil when it can,
// or the subnet has none.
func (e *Engine) checkBridge(subnetID string) error {
	b, ok := e.bridgeOf(subnetID)
	if !ok {
		return nil
	}
	return b.Check()
}

// CheckBridges says which mapped subnets do not exist, and how they are made.
func (e *Engine) CheckBridges(ctx context.Context) error {
	if len(e.cfg.Bridges) == 0 {
		return nil
	}
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range e.cfg.Bridges {
		if _, _, err := s.Subnet(b.id(e.subscription)); err != nil {
			errs = append(errs, fmt.Errorf("subnet %v on bridge %s: %w; make it: az network vnet subnet create -g %s --vnet-name %s -n %s --address-prefixes PREFIX",
				b, b.Bridge, err, b.Group, b.Network, b.Subnet))
		}
	}
	return errors.Join(errs...)
}

// bridgeOn is how the network of a run in a subnet is on the host's bridge; nil when
// the subnet has none.
func (b *builder) bridgeOn(subnetID string) *network.Bridge {
	mapped, ok := b.engine.bridgeOf(subnetID)
	if !ok {
		return nil
	}
	return &network.Bridge{
		Name: mapped.Bridge, Owner: b.active.id(),
		OnTrouble: func(err error) { b.warn("%v", err) },
	}
}
