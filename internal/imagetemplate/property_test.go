package imagetemplate

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"goldsmith/internal/jsontree"
)

// lenientDrafts are valid templates that use many fields of the lenient
// versions.
var lenientDrafts = []draft{
	{version: "2018-02-01-preview", customize: `{"type": "shell", "name": "a", "script": "https://h/x.sh"}`,
		distribute: `{"type": "sharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `", "replicationRegions": ["west"], "artifactTags": {"Key": "v"}}`},
	{version: "2019-05-01-preview", source: `{"type": "ISO", "sourceUri": "https://h/x.iso", "sha256Checksum": "` + sum + `"}`,
		properties: `, "buildTimeoutInMinutes": 80, "vmProfile": {"vmSize": "s", "vnetConfig": {"name": "n", "subnetName": "s", "resourceGroupName": "g"}}`},
	{version: "2020-02-14", top: `, "tags": {"Key": "v"}, "type": "Microsoft.VirtualMachineImages", "name": "web"`,
		customize: `{"type": "PowerShell", "inline": ["x"], "runElevated": "true", "runAsSystem": true, "validExitCodes": ["0"]},
			{"type": "WindowsUpdate", "filters": ["f"], "searchCriteria": "s", "updateLimit": 1},
			{"type": "File", "sourceUri": "x", "destination": "/tmp/x"}`},
	{version: "2023-07-01", properties: `, "errorHandling": {"onCustomizerError": "abort"}, "optimize": {"vmBoot": {"state": "Enabled"}},
		"validate": {"inVMValidations": [{"type": "Shell", "scriptUri": "x", "sha256Checksum": "` + sum + `"}]},
		"vmProfile": {"osDiskSizeGB": 3, "vnetConfig": {"subnetId": "` + subnetID + `", "proxyVmSize": "p"}}`,
		distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `",
			"targetRegions": [{"name": "west", "replicaCount": 2, "storageAccountType": "Premium_LRS"}], "versioning": {"scheme": "Latest", "major": 1}}`},
}

// freeKeys are the members whose own members have names of the user's choice.
var freeKeys = []string{"tags", "artifactTags", "userAssignedIdentities", "managedResourceTags"}

// The case of names, discriminators and choices means nothing in the lenient
// versions.
func TestCaseMeansNothingWhenLenient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(lenientDrafts).Draw(t, "draft")
		want := d.parse().Template
		if want == nil {
			t.Fatalf("the draft is not valid:\n%s", brief(d.parse().Problems))
		}
		root, err := jsontree.Parse([]byte(d.text()), limits)
		if err != nil {
			t.Fatal(err)
		}
		changeCase(t, root)
		changed := root.Append(nil)
		r := Parse(changed, Options{APIVersion: d.version})
		if r.Template == nil {
			t.Fatalf("%s is not valid:\n%s", changed, brief(r.Problems))
		}
		ignorePointers := []cmp.Option{cmpopts.IgnoreFields(Customizer{}, "Pointer"), cmpopts.IgnoreFields(Distributor{}, "Pointer"), cmpopts.IgnoreFields(VNet{}, "Pointer"), sameID}
		if diff := cmp.Diff(want, r.Template, ignorePointers...); diff != "" {
			t.Fatalf("%s means something else (-want +got):\n%s", changed, diff)
		}
	})
}

func changeCase(t *rapid.T, n *jsontree.Node) {
	for _, item := range n.Items {
		changeCase(t, item)
	}
	for i := range n.Members {
		m := &n.Members[i]
		name := m.Key
		m.Key = flip(t, name)
		if m.Value.Kind == jsontree.String && slices.Contains([]string{"type", "scheme", "state", "onCustomizerError", "storageAccountType"}, name) {
			m.Value.Text = flip(t, m.Value.Text)
		}
		if !slices.Contains(freeKeys, name) {
			changeCase(t, m.Value)
		}
	}
}

func flip(t *rapid.T, s string) string {
	return strings.Map(func(r rune) rune {
		if !rapid.Bool().Draw(t, "flip") {
			return r
		}
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

func FuzzParse(f *testing.F) {
	for _, v := range Versions() {
		f.Add([]byte(draft{version: v}.text()), v, byte(0))
	}
	for _, d := range lenientDrafts {
		f.Add([]byte(d.text()), d.version, byte(1))
	}
	f.Add([]byte(placeholderFile), "", byte(2))
	f.Add([]byte(`{"a": "[parameters('x')]", "properties": {"VirtualNetworkConfig": {"name": "n"}}}`), "2019-05-01-preview", byte(0))
	f.Fuzz(func(t *testing.T, file []byte, version string, flags byte) {
		o := Options{APIVersion: version, Service: flags&1 != 0, AllowPlaceholders: flags&2 != 0}
		if flags&4 != 0 {
			o.Defaults = map[string]string{"region": "<name>", "name": "a/b~c", "imgBuilderId": identityID}
		}
		r := Parse(file, o)
		failed := slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Severity == SeverityError })
		if failed != (r.Template == nil) {
			t.Fatalf("template nil is %t with an error %t:\n%s", r.Template == nil, failed, brief(r.Problems))
		}
		lines := 1 + strings.Count(string(file), "\n")
		for i, p := range r.Problems {
			if p.Message == "" || p.Code == "" || p.Line > lines || p.NotExecutable && p.Severity != SeverityWarning {
				t.Fatalf("malformed problem %+v in %d lines", p, lines)
			}
			if i > 0 && i < maxProblems && p.Line < r.Problems[i-1].Line {
				t.Fatalf("problems are not in file order:\n%s", brief(r.Problems))
			}
		}
		if r.Template == nil {
			return
		}
		if !json.Valid(r.Body) {
			t.Fatalf("the body is not JSON: %s", r.Body)
		}
		o.Defaults = nil
		o.AllowPlaceholders = true // a default may hold what looks like one
		again := Parse(r.Body, o)
		if diff := cmp.Diff(r.Template, again.Template, sameID); diff != "" {
			t.Fatalf("the body means something else (-file +body):\n%s\n%s", diff, brief(again.Problems))
		}
	})
}
