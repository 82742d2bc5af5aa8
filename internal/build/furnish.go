package build

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/network"
	"goldsmith/internal/nsg"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

// NetworkSettings is what an operator has said of one virtual network.
type NetworkSettings struct {
	// Siloed networks reach nothing outside but what Allow names.
	Siloed bool           `json:"siloed,omitempty"`
	Allow  []netip.Prefix `json:"allow,omitempty"`
	// Exposed are services of the host that are published in the network.
	Exposed []Exposed `json:"exposed,omitempty"`
}

// Exposed is a service of the host at an address of a virtual network.
type Exposed struct {
	Name   string         `json:"name"`   // which resolves in the network, "" for none
	At     netip.AddrPort `json:"at"`     // in the network
	Target string         `json:"target"` // host:port, as the host reaches it
	// Socket is a member's port instead, see Member.
	Socket string `json:"socket,omitempty"`
}

// networkDocuments is the collection of NetworkSettings, by the networks' ids.
const networkDocuments = "networks"

// NetworkSettings reads what is said of the network with id; the zero value when
// nothing is.
func (e *Engine) NetworkSettings(ctx context.Context, id string) (NetworkSettings, error) {
	var s NetworkSettings
	rec, err := e.db.Documents(networkDocuments).Get(ctx, resource.Key(id))
	if arm.IsCode(err, arm.CodeNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(rec.Body, &s); err != nil {
		return s, arm.Errorf(arm.CodeCorrupt, "the settings of %s do not parse: %w", id, err)
	}
	return s, nil
}

// ChangeNetworkSettings changes what is said of the network with id, which must
// exist. An exposed service must be at a free address of one of its subnets.
func (e *Engine) ChangeNetworkSettings(ctx context.Context, id string, change func(*NetworkSettings) error) error {
	unlock, err := e.LockNetworks(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	snapshot, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return err
	}
	n, err := snapshot.Network(id)
	if err != nil {
		return err
	}
	s, err := e.NetworkSettings(ctx, id)
	if err != nil {
		return err
	}
	if err := change(&s); err != nil {
		return err
	}
	for _, x := range s.Exposed {
		i := slices.IndexFunc(n.Subnets, func(s vnet.Subnet) bool { return s.Prefix.Contains(x.At.Addr()) })
		if i < 0 {
			return arm.Errorf(vnet.CodeAddressOutside, "%v is in no subnet of %s", x.At.Addr(), n.Name).At(id)
		}
		if err := snapshot.CheckAddress(n.Subnets[i], x.At.Addr(), id); err != nil {
			return err
		}
	}
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the settings of a network: %w", err)
	}
	_, err = e.db.Documents(networkDocuments).Put(ctx, resource.Key(id), body, document.Condition{})
	return err
}

// occupied is s with the addresses at which something is published, so that no
// build is given one of them.
func (e *Engine) occupied(ctx context.Context, s *vnet.Snapshot) (*vnet.Snapshot, error) {
	var uses []vnet.Use
	for _, r := range s.OfType(vnet.TypeNetwork) {
		settings, err := e.NetworkSettings(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		if len(settings.Exposed) == 0 {
			continue
		}
		n, err := s.Network(r.ID)
		if err != nil {
			return nil, err
		}
		seen := map[netip.Addr]bool{}
		for _, x := range settings.Exposed {
			i := slices.IndexFunc(n.Subnets, func(s vnet.Subnet) bool { return s.Prefix.Contains(x.At.Addr()) })
			if i >= 0 && !seen[x.At.Addr()] {
				uses = append(uses, vnet.Use{By: n.ID, Of: n.Subnets[i].ID, Member: "exposed", Addr: x.At.Addr()})
				seen[x.At.Addr()] = true
			}
		}
	}
	return s.Occupied(uses...), nil
}

// furnishing is what operators and zones put into a network, for a build in it.
type furnishing struct {
	siloed  bool
	allow   []netip.Prefix
	exposed []furnished // of the network and its peers
	records map[string]netip.Addr
}

// furnished is something that is exposed in a network.
type furnished struct {
	Exposed
	network vnet.Network
}

// group is the security group that judges what reaches a member: that of its
// subnet. A host's service has none, and neither has a subnet without one.
func (f furnished) group(s *vnet.Snapshot) (*nsg.Group, error) {
	i := slices.IndexFunc(f.network.Subnets, func(sub vnet.Subnet) bool { return sub.Prefix.Contains(f.At.Addr()) })
	if f.Socket == "" || i < 0 || f.network.Subnets[i].Group == "" {
		return nil, nil
	}
	g, err := s.Group(f.network.Subnets[i].Group)
	return &g, err
}

// somePort stands for the ports that systems pick for their connections.
const somePort = 50000

// judge is the rule that keeps a machine from a member, nil when none does.
func (f furnished) judge(s *vnet.Snapshot, from netip.Addr) (*nsg.Match, error) {
	g, err := f.group(s)
	if g == nil || err != nil {
		return nil, err
	}
	decision := nsg.Compile(s.Tags(f.network), g, nil).Decide(nsg.Inbound, nsg.Packet{
		Protocol: nsg.TCP, Source: from, Destination: f.At.Addr(), SourcePort: somePort, DestinationPort: f.At.Port(),
	})
	if decision.Allowed {
		return nil, nil
	}
	return &decision.Matches[len(decision.Matches)-1], nil
}

// furnishings are those of n and of the peers of that: exposed services, names, the
// egress policy.
func (e *Engine) furnishings(ctx context.Context, s *vnet.Snapshot, n vnet.Network) (f furnishing, err error) {
	f.records = map[string]netip.Addr{}
	networks := []vnet.Network{n}
	for _, id := range n.Peers {
		if peer, err := s.Network(id); err == nil && s.Peered(n, peer) {
			networks = append(networks, peer)
		}
	}
	for i, m := range networks {
		settings, err := e.NetworkSettings(ctx, m.ID)
		if err != nil {
			return f, err
		}
		if i == 0 {
			f.siloed, f.allow = settings.Siloed, settings.Allow
		}
		for _, x := range settings.Exposed {
			f.exposed = append(f.exposed, furnished{x, m})
			if x.Name != "" {
				f.records[strings.ToLower(x.Name)] = x.At.Addr()
			}
		}
	}
	maps.Copy(f.records, s.Names(n.ID))
	return f, nil
}

// furnish puts into a build's network what is in the virtual network of its
// subnet and in the peers of that. warn hears, once each, of members that the build
// tries to reach and that a security group keeps it from.
func (e *Engine) furnish(s *vnet.Snapshot, f furnishing, cfg *network.Config, warn func(format string, args ...any)) error {
	cfg.Egress = e.cfg.Egress
	cfg.Egress.Allow = slices.Concat(cfg.Egress.Allow, f.allow)
	if f.siloed {
		cfg.Egress.None, cfg.Egress.Allow = true, f.allow
	}
	cfg.Services, cfg.Records = map[netip.AddrPort]network.Service{}, f.records
	for _, x := range f.exposed {
		denied, err := x.judge(s, cfg.Guest)
		if err != nil {
			return err
		}
		if denied != nil {
			told := sync.OnceFunc(func() {
				warn("the build vm may not reach the machine at %v: denied by rule %s (priority %d) of %s", x.At, denied.Rule, denied.Priority, denied.Group)
			})
			cfg.Services[x.At] = func(context.Context) (net.Conn, error) {
				told()
				return nil, arm.Errorf(arm.CodeNotAllowed, "security rule %s denies it", denied.Rule)
			}
			continue
		}
		cfg.Services[x.At] = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			if x.Socket != "" {
				return d.DialContext(ctx, "unix", x.Socket)
			}
			return d.DialContext(ctx, "tcp", x.Target)
		}
	}
	return nil
}
