package topology

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/event"
)

var update = flag.Bool("update", false, "draw the pictures of the documents again")

// pictures is where the documents' pictures are.
const pictures = "../../../docs/pictures"

func drawings() map[string]Topology {
	a := netip.MustParseAddr
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	proxied := Proxied("net/build", subnet, a("10.1.0.4"), a("10.1.0.5"), a("10.1.0.6"), a("10.1.0.7"), 60001, 22)
	proxied.Set("proxy vm", "healthy")
	return map[string]Topology{
		"public":   Public(a("198.18.0.1"), netip.MustParsePrefix("10.0.0.0/24"), a("10.0.0.1"), a("10.0.0.4"), 22),
		"proxied":  proxied,
		"isolated": Isolated("net/aci", "net/build", netip.MustParsePrefix("10.1.1.0/24"), subnet, a("10.1.1.4"), a("10.1.0.4"), 22),
	}
}

// The pictures in the documents are those that the program draws.
func TestPicturesOfTheDocuments(t *testing.T) {
	for name, drawn := range drawings() {
		path := filepath.Join(pictures, "topology-"+name+".svg")
		if *update {
			if err := os.MkdirAll(pictures, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(drawn.SVG()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(have), drawn.SVG()); diff != "" {
			t.Errorf("%s (-document +program):\n%s", path, diff)
		}
	}
}

func eventsOf(list ...event.Event) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// A view has the newest drawing of a run, the rules that decided, and what went
// outside, added up.
func TestCollect(t *testing.T) {
	first, last := drawings()["proxied"], drawings()["proxied"]
	first.Set("proxy vm", "unhealthy")
	last.Rules = []Rule{{Card: "build", Direction: "inbound", Group: "/x/networkSecurityGroups/<g>", Name: "ssh", Priority: 100, Allow: true, Count: 2}}
	connection := func(target, name string, sent, received int64) event.Event {
		return event.Event{Kind: event.Connection, Target: target, Text: name, Done: sent, Total: received}
	}
	list := []event.Event{
		{Kind: event.Topology, Text: first.Encode()}, {Kind: event.Output, Text: "x"},
		connection("tcp 203.0.113.7:443", "deb.example", 1, 2), connection("udp 203.0.113.8:123", "", 10, 20), connection("tcp 203.0.113.7:443", "deb.example", 3, 4),
		{Kind: event.Topology, Text: last.Encode()},
	}
	v, found, err := Collect(eventsOf(list...))
	if err != nil || !found {
		t.Fatal(found, err)
	}
	want := View{Topology: last, Connections: []Connection{
		{Protocol: "tcp", Address: "203.0.113.7", Port: 443, Name: "deb.example", Count: 2, Sent: 4, Received: 6},
		{Protocol: "udp", Address: "203.0.113.8", Port: 123, Count: 1, Sent: 10, Received: 20},
	}}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		"inbound of build vm allowed by rule ssh (priority 100) of <g>: 2 connections",
		"connection tcp 203.0.113.7:443 deb.example: 4 bytes sent, 6 received, 2 times",
		"[healthy]",
	} {
		if !strings.Contains(v.Text(), line) {
			t.Errorf("the text lacks %q:\n%s", line, v.Text())
		}
	}
	wellFormed(t, v.SVG())
	for i := range 3000 {
		list = append(list, connection(fmt.Sprintf("tcp 198.51.100.1:%d", i+1), "", 0, 0))
	}
	if v, _, err = Collect(eventsOf(list...)); err != nil || len(v.Connections) != maxConnections || v.More != 3002-maxConnections {
		t.Errorf("%d connections, %d more, %v", len(v.Connections), v.More, err)
	}
	if !strings.Contains(v.SVG(), "and 2982 more connections") {
		t.Error("the picture does not say how many are left out")
	}
	if _, found, err := Collect(eventsOf()); found || err != nil {
		t.Errorf("a run without a network: %t, %v", found, err)
	}
	if _, _, err := Collect(eventsOf(event.Event{Kind: event.Topology, Text: "{"})); err == nil {
		t.Error("a broken drawing is drawn")
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDrawingsAreWellFormed(t *testing.T) {
	for name, drawn := range drawings() {
		drawn.Title += ` <&">`
		drawn.Notes = []string{"<script>"}
		wellFormed(t, drawn.SVG())
		for _, n := range drawn.Nodes {
			if !strings.Contains(drawn.Text(), n.Name) {
				t.Errorf("%s does not show %s", name, n.Name)
			}
		}
		again, err := Decode(drawn.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(drawn, again); diff != "" {
			t.Error(diff)
		}
	}
}
