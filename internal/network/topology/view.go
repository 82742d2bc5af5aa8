package topology

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/event"
)

// maxConnections bounds how many different connections a View names.
const maxConnections = 1000

// drawnConnections is how many of them a picture names.
const drawnConnections = 20

// Rule is a rule of a security group that decided about traffic of a run.
type Rule struct {
	Card      string `json:"card"`      // "build" or "proxy"
	Direction string `json:"direction"` // "inbound" or "outbound", seen from the card
	Group     string `json:"group"`     // id of the security group
	Name      string `json:"name"`
	Priority  int    `json:"priority"`
	Allow     bool   `json:"allow"`
	// Count is how many connections it let pass, or packets it refused.
	Count uint64 `json:"count"`
}

// Connection is what a run exchanged with one port outside, over all connections.
type Connection struct {
	Protocol string `json:"protocol"` // "tcp" or "udp"
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Name     string `json:"name,omitempty"` // that the guest resolved
	Count    int    `json:"count"`
	Sent     int64  `json:"sent"`     // bytes
	Received int64  `json:"received"` // bytes
}

// View is how a run is or was connected, with what it reached outside.
type View struct {
	Topology
	Connections []Connection `json:"connections"`
	// More is how many connections there were beside those, with other ports.
	More int `json:"moreConnections,omitempty"`
}

// Collect is the view of a run with these events; found is false for a run that had
// no network yet.
func Collect(events iter.Seq2[event.Event, error]) (v View, found bool, err error) {
	v.Connections = []Connection{}
	known := map[[2]string]int{}
	for e, err := range events {
		if err != nil {
			return v, false, err
		}
		switch e.Kind {
		case event.Topology:
			t, err := Decode(e.Text)
			if err != nil {
				return v, false, fmt.Errorf("the drawing in event %d does not parse: %w", e.Offset, err)
			}
			v.Topology, found = t, true
		case event.Connection:
			key := [2]string{e.Target, e.Text}
			i, ok := known[key]
			if !ok {
				c, parsed := connection(e)
				if !parsed || len(v.Connections) == maxConnections {
					v.More++
					continue
				}
				i = len(v.Connections)
				known[key] = i
				v.Connections = append(v.Connections, c)
			}
			c := &v.Connections[i]
			c.Count, c.Sent, c.Received = c.Count+1, c.Sent+e.Done, c.Received+e.Total
		}
	}
	return v, found, nil
}

// connection reads what an event is about, without its bytes.
func connection(e event.Event) (Connection, bool) {
	protocol, to, _ := strings.Cut(e.Target, " ")
	at, err := netip.ParseAddrPort(to)
	return Connection{Protocol: protocol, Address: at.Addr().String(), Port: at.Port(), Name: e.Text}, err == nil
}

// String is the rule for people, in a line.
func (r Rule) String() string {
	verb, what := "allowed", "connections"
	if !r.Allow {
		verb, what = "denied", "packets"
	}
	group := r.Group[strings.LastIndexByte(r.Group, '/')+1:]
	return fmt.Sprintf("%s of %s vm %s by rule %s (priority %d) of %s: %d %s", r.Direction, r.Card, verb, r.Name, r.Priority, group, r.Count, what)
}

// String is the connection for people, in a line.
func (c Connection) String() string {
	name := ""
	if c.Name != "" {
		name = " " + c.Name
	}
	times := ""
	if c.Count > 1 {
		times = fmt.Sprintf(", %d times", c.Count)
	}
	return fmt.Sprintf("connection %s %s:%d%s: %d bytes sent, %d received%s", c.Protocol, c.Address, c.Port, name, c.Sent, c.Received, times)
}

// Text draws the view for a terminal.
func (v View) Text() string {
	var b strings.Builder
	b.WriteString(v.Topology.Text())
	for _, line := range v.lines(len(v.Connections)) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// SVG draws the view as a picture.
func (v View) SVG() string {
	t := v.Topology
	t.Notes = slices.Concat(t.notes(), v.lines(drawnConnections))
	t.Rules = nil
	return t.SVG()
}

// lines are those of the first limit connections.
func (v View) lines(limit int) (lines []string) {
	for _, c := range v.Connections[:min(limit, len(v.Connections))] {
		lines = append(lines, c.String())
	}
	if left := len(v.Connections) - len(lines) + v.More; left > 0 {
		lines = append(lines, fmt.Sprintf("and %d more connections", left))
	}
	return lines
}
