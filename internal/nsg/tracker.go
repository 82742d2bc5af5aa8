package nsg

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of a Tracker.
const (
	DefaultMaxFlows = 1 << 16
	tcpIdle         = 20 * time.Minute
	otherIdle       = 2 * time.Minute
	endedIdle       = 30 * time.Second
)

// Tracker makes a policy stateful for one network card: what a flow's first
// packet was allowed, its later packets and answers are too. It holds a bounded
// number of flows, so whoever makes very many loses the oldest of their own. It
// may be used concurrently.
type Tracker struct {
	max int

	mu     sync.Mutex
	policy *Policy
	flows  map[flowKey]*flow
	hand   []flowKey // ring of keys for eviction
	next   int
	hits   map[*compiled]*Hit
}

// Hit is how often a rule decided.
type Hit struct {
	Direction Direction
	Match
	Count uint64 // flows that it let pass, packets that it refused
}

// flowKey names a flow the same way for both of its directions.
type flowKey struct {
	local, remote         netip.Addr
	localPort, remotePort uint16
	protocol              Protocol
}

type flow struct {
	expires time.Time
	ended   bool
}

// NewTracker makes a tracker without flows; max is how many it holds, 0 for
// DefaultMaxFlows.
func NewTracker(policy *Policy, max int) *Tracker {
	if max == 0 {
		max = DefaultMaxFlows
	}
	return &Tracker{max: max, policy: policy, flows: map[flowKey]*flow{}, hits: map[*compiled]*Hit{}}
}

// SetPolicy replaces the rules. Flows that are known go on, as in Azure.
func (t *Tracker) SetPolicy(p *Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy = p
}

func keyOf(d Direction, p *Packet) flowKey {
	if d == Inbound {
		return flowKey{p.Destination, p.Source, p.DestinationPort, p.SourcePort, p.Protocol}
	}
	return flowKey{p.Source, p.Destination, p.SourcePort, p.DestinationPort, p.Protocol}
}

func idleOf(p Protocol, ended bool) time.Duration {
	switch {
	case ended:
		return endedIdle
	case p == TCP:
		return tcpIdle
	}
	return otherIdle
}

// Pass reports whether a packet passes now, and remembers its flow if so. ending
// marks a packet that ends its flow, such as a TCP reset.
func (t *Tracker) Pass(d Direction, p Packet, ending bool, now time.Time) bool {
	key := keyOf(d, &p)
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.flows[key]
	if f != nil && now.Before(f.expires) {
		f.ended = f.ended || ending
		f.expires = now.Add(idleOf(p.Protocol, f.ended))
		return true
	}
	if !t.decide(d, &p) {
		return false
	}
	if f == nil {
		f = &flow{}
		t.insert(key, f)
	}
	f.ended, f.expires = ending, now.Add(idleOf(p.Protocol, ending))
	return true
}

// decide is Policy.Allows, and counts the rules that decide.
func (t *Tracker) decide(d Direction, p *Packet) bool {
	return t.policy.allows(d, p, func(rule *compiled) {
		hit := t.hits[rule]
		if hit == nil {
			hit = &Hit{Direction: d, Match: rule.Match}
			t.hits[rule] = hit
		}
		hit.Count++
	})
}

// Hits are the rules that decided so far, by direction, priority and name.
func (t *Tracker) Hits() []Hit {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Hit, 0, len(t.hits))
	for _, h := range t.hits {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}

// insert adds a flow, in place of the oldest when there is no room.
func (t *Tracker) insert(key flowKey, f *flow) {
	if len(t.hand) < t.max {
		t.hand = append(t.hand, key)
	} else {
		delete(t.flows, t.hand[t.next])
		t.hand[t.next] = key
		t.next = (t.next + 1) % t.max
	}
	t.flows[key] = f
}

// Known reports whether a packet belongs to a flow that passed before, in either
// direction. It changes nothing.
func (t *Tracker) Known(d Direction, p Packet, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.flows[keyOf(d, &p)]
	return f != nil && now.Before(f.expires)
}

// Flows is how many flows are held.
func (t *Tracker) Flows() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows)
}
