package contents

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStatus(t *testing.T) {
	got, err := parseStatus(strings.NewReader(`Package: jq
Status: install ok installed
Architecture: amd64
Version: 1.6-2.1
Description: a processor
 Version: of nothing

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"jq": "1.6-2.1", "libc6:amd64": "2.36-9"}, got); diff != "" {
		t.Error(diff)
	}
	changes := comparePackages(got, map[string]string{"jq": "1.7", "new": "3"})
	want := []PackageChange{{"jq", "1.6-2.1", "1.7"}, {"libc6:amd64", "2.36-9", ""}, {"new", "", "3"}}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
}
