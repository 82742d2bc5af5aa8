package network

import (
	"goldsmith/internal/nsg"
)

// CardHit is a rule that decided about the traffic of a card.
type CardHit struct {
	Card string // "build" or "proxy"
	nsg.Hit
}

// Hits are the rules that decided so far, by card and then as nsg.Tracker orders
// them. Those of a machine that was plugged in again are added up.
func (n *Private) Hits() []CardHit {
	n.mu.Lock()
	filters := append([]cardFilter(nil), n.filters...)
	n.mu.Unlock()
	var out []CardHit
	type key struct {
		card  string
		d     nsg.Direction
		match nsg.Match
	}
	known := map[key]int{}
	for _, card := range []string{"build", "proxy"} {
		for _, f := range filters {
			if f.card != card {
				continue
			}
			for _, h := range f.filter.Hits() {
				k := key{card, h.Direction, h.Match}
				if i, ok := known[k]; ok {
					out[i].Count += h.Count
					continue
				}
				known[k] = len(out)
				out = append(out, CardHit{card, h})
			}
		}
	}
	return out
}
