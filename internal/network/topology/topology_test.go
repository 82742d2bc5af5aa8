package topology

import (
	"encoding/xml"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestDrawingsAreWellFormed(t *testing.T) {
	for name, drawn := range drawings() {
		drawn.Title += ` <&">`
		drawn.Notes = []string{"<script>"}
		d := xml.NewDecoder(strings.NewReader(drawn.SVG()))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
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
