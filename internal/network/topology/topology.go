// Package topology draws how a build is connected, as text and as SVG.
package topology

import (
	"encoding/json"
	"fmt"
	"html"
	"net/netip"
	"slices"
	"strings"
)

// Node is a machine or a service of a deployment.
type Node struct {
	Name  string `json:"name"`
	Where string `json:"where"` // network and address, for people
	// Address is the node's own in the network; "" where it has none.
	Address string `json:"address,omitempty"`
	State   string `json:"state,omitempty"`
}

// Hop is the connection of a node with the next one.
type Hop struct {
	Label string `json:"label"` // protocol and port
}

// Topology is the path from the builder to the build VM, in order, and the build
// VM's way out.
type Topology struct {
	Kind  string   `json:"kind"` // "public", "proxied" or "isolated"
	Title string   `json:"title"`
	Nodes []Node   `json:"nodes"`
	Hops  []Hop    `json:"hops"` // one fewer than Nodes
	Out   string   `json:"out"`  // how the build VM gets outside
	Notes []string `json:"notes,omitempty"`
	Rules []Rule   `json:"rules,omitempty"` // that decided so far, by card and priority
}

// notes are the lines below a drawing.
func (t Topology) notes() []string {
	lines := slices.Clone(t.Notes)
	for _, r := range t.Rules {
		lines = append(lines, r.String())
	}
	return lines
}

func port(p uint16) Hop { return Hop{fmt.Sprintf("tcp %d", p)} }

// Public is the deployment without a network of the user's.
func Public(service netip.Addr, subnet netip.Prefix, router, guest netip.Addr, guestPort uint16) Topology {
	return Topology{
		Kind: "public", Title: "a network of the build's own",
		Nodes: []Node{
			{Name: "image builder", Where: service.String(), Address: service.String()},
			{Name: "public address", Where: "security group: only the builder"},
			{Name: "build vm", Where: fmt.Sprintf("%v in %v", guest, subnet), Address: guest.String()},
		},
		Hops: []Hop{port(guestPort), port(guestPort)},
		Out:  fmt.Sprintf("router %v, egress policy", router),
	}
}

// Proxied is the deployment with private link, load balancer and proxy VM.
func Proxied(where string, subnet netip.Prefix, nat, frontend, proxy, guest netip.Addr, proxyPort, guestPort uint16) Topology {
	return Topology{
		Kind: "proxied", Title: fmt.Sprintf("existing network %s (%v)", where, subnet),
		Nodes: []Node{
			{Name: "image builder", Where: "private endpoint"},
			{Name: "private link service", Where: "NAT " + nat.String(), Address: nat.String()},
			{Name: "load balancer", Where: "internal, " + frontend.String(), Address: frontend.String()},
			{Name: "proxy vm", Where: proxy.String(), Address: proxy.String()},
			{Name: "build vm", Where: guest.String(), Address: guest.String()},
		},
		Hops: []Hop{{"private link"}, port(proxyPort), port(proxyPort), port(guestPort)},
		Out:  "proxy vm, router, egress policy",
	}
}

// Isolated is the deployment in which the builder has a subnet of its own.
func Isolated(containers, where string, from, to netip.Prefix, builder, guest netip.Addr, guestPort uint16) Topology {
	return Topology{
		Kind: "isolated", Title: "existing network, builder in a subnet of its own",
		Nodes: []Node{
			{Name: "image builder", Where: fmt.Sprintf("%v in %s (%v)", builder, containers, from), Address: builder.String()},
			{Name: "build vm", Where: fmt.Sprintf("%v in %s (%v)", guest, where, to), Address: guest.String()},
		},
		Hops: []Hop{port(guestPort)},
		Out:  "router, egress policy",
	}
}

// Set gives the node called name a state.
func (t *Topology) Set(name, state string) {
	for i := range t.Nodes {
		if t.Nodes[i].Name == name {
			t.Nodes[i].State = state
		}
	}
}

// Encode is the topology as JSON.
func (t Topology) Encode() string {
	b, err := json.Marshal(t)
	if err != nil {
		return "{}"
	}
	return string(b)
}

// Decode reads what Encode wrote.
func Decode(s string) (t Topology, err error) {
	err = json.Unmarshal([]byte(s), &t)
	return t, err
}

// Text draws the topology for a terminal.
func (t Topology) Text() string {
	var b strings.Builder
	fmt.Fprintln(&b, t.Title)
	for i, n := range t.Nodes {
		state := ""
		if n.State != "" {
			state = "  [" + n.State + "]"
		}
		fmt.Fprintf(&b, "  %-22s %s%s\n", n.Name, n.Where, state)
		if i < len(t.Hops) {
			fmt.Fprintf(&b, "    | %s\n", t.Hops[i].Label)
		}
	}
	fmt.Fprintf(&b, "  way out: %s\n", t.Out)
	for _, n := range t.notes() {
		fmt.Fprintf(&b, "  %s\n", n)
	}
	return b.String()
}

// Sizes of the drawing in pixels.
const (
	boxWidth, boxHeight = 190, 64
	gap, margin         = 90, 20
	lineHeight          = 18
)

// SVG draws the topology as a picture.
func (t Topology) SVG() string {
	notes := t.notes()
	width := 2*margin + len(t.Nodes)*boxWidth + max(len(t.Nodes)-1, 0)*gap
	height := 2*margin + 30 + boxHeight + lineHeight*(len(notes)+2)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text := func(x, y int, anchor, weight, s string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="%s" font-weight="%s">%s</text>`+"\n", x, y, anchor, weight, html.EscapeString(s))
	}
	text(margin, margin+12, "start", "bold", t.Title)
	top := margin + 30
	for i, n := range t.Nodes {
		x := margin + i*(boxWidth+gap)
		fill := "#eef3fb"
		switch n.State {
		case "healthy":
			fill = "#e4f5e4"
		case "unhealthy":
			fill = "#fbe4e4"
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#44546a"/>`+"\n", x, top, boxWidth, boxHeight, fill)
		name := n.Name
		if n.State != "" {
			name += " (" + n.State + ")"
		}
		text(x+boxWidth/2, top+26, "middle", "bold", name)
		text(x+boxWidth/2, top+46, "middle", "normal", n.Where)
		if i < len(t.Hops) {
			from, to, y := x+boxWidth, x+boxWidth+gap, top+boxHeight/2
			fmt.Fprintf(&b, `<path d="M%d %dH%dm-7 -4l7 4l-7 4" fill="none" stroke="#44546a"/>`+"\n", from, y, to)
			text((from+to)/2, y-8, "middle", "normal", t.Hops[i].Label)
		}
	}
	y := top + boxHeight + lineHeight + 6
	text(margin, y, "start", "normal", "way out: "+t.Out)
	for i, n := range notes {
		text(margin, y+lineHeight*(i+1), "start", "normal", n)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
