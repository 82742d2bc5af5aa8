package build

import (
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/event"
	"goldsmith/internal/network"
	"goldsmith/internal/network/topology"
)

// observe is the part of a network's configuration that tells of what happens on
// it.
func (l *launcher) observe() network.Config {
	return network.Config{
		OnFlow: func(f network.Flow) {
			name := f.Name
			if name == "" {
				name = f.Remote.Addr().String()
			}
			switch {
			case f.Ended && f.Reason == "":
				l.sink.Emit(event.Event{
					Kind: event.Connection, Target: fmt.Sprintf("%s %v", f.Protocol, f.Remote), Text: f.Name, Done: f.Sent, Total: f.Received,
				})
			case !f.Allowed:
				l.warn("the guest may not reach %s port %d/%s: %s", name, f.Remote.Port(), f.Protocol, f.Reason)
			}
		},
		OnDenied: func(card string, d network.Denial) {
			who := "the build vm"
			if card == "proxy" {
				who = "the proxy vm"
			}
			l.warn("%s packet of %s from or to %v, port %d/%s, denied by rule %s (priority %d)",
				strings.ToLower(d.Direction.String()), who, d.Remote, d.Port, strings.ToLower(d.Protocol.String()), d.Rule.Rule, d.Rule.Priority)
		},
	}
}

// health tells of a change of the proxy VM's health.
func (b *builder) health(h network.Health, why error) {
	b.drawing.Lock()
	b.deployed.drawn.Set("proxy vm", string(h))
	b.draw(b.deployed.drawn)
	b.drawing.Unlock()
	if h == network.Unhealthy {
		b.warn("the load balancer's probe finds the proxy vm unhealthy: %v", why)
	}
}

// matched draws the run with the rules that decided on its network so far. It draws
// nothing when these are the same as before and, unless it is the last time, when
// only their counts differ.
func (b *builder) matched(n *network.Private, last bool) {
	var rules []topology.Rule
	for _, h := range n.Hits() {
		rules = append(rules, topology.Rule{
			Card: h.Card, Direction: strings.ToLower(h.Direction.String()), Group: h.Group, Name: h.Rule, Priority: h.Priority, Allow: h.Allow, Count: h.Count,
		})
	}
	b.drawing.Lock()
	defer b.drawing.Unlock()
	same := slices.EqualFunc(rules, b.deployed.drawn.Rules, func(a, c topology.Rule) bool {
		if !last {
			a.Count = c.Count
		}
		return a == c
	})
	if same {
		return
	}
	b.deployed.drawn.Rules = rules
	b.draw(b.deployed.drawn)
}

// draw records how the run is connected.
func (b *builder) draw(t topology.Topology) {
	b.sink.Emit(event.Event{Kind: event.Topology, Text: t.Encode()})
}
