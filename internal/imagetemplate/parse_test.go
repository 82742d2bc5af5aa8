package imagetemplate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

// sameID compares resource ids by what they name.
var sameID = cmp.Comparer(func(a, b arm.ID) bool { return a.Key() == b.Key() })

const (
	identityID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder"
	imageID    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/web"
	galleryID  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/shop/images/web"
	subnetID   = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/net/subnets/build"
	sum        = "ade4c5214c3c675e92c66e2d067a870c5b81b9844b3de3cc72c49ff36425fc93"
)

// draft is a valid template of a version with parts of it replaced. Parts are
// JSON; extra members start with a comma.
type draft struct {
	version    string
	service    bool
	top        string // extra members of the body
	identity   string // "-" for none
	source     string
	customize  string // elements
	distribute string // elements
	properties string // extra members of properties
}

func (d draft) text() string {
	v, _ := parseVersion(d.version)
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	identity := ""
	if v >= v2020Feb {
		identity = `"identity": {"type": "UserAssigned", "userAssignedIdentities": {"` + identityID + `": {}}},`
	}
	switch d.identity {
	case "":
	case "-":
		identity = ""
	default:
		identity = `"identity": ` + d.identity + `,`
	}
	source := or(d.source, `{"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"}`)
	distribute := or(d.distribute, `{"type": "ManagedImage", "runOutputName": "out", "imageId": "`+imageID+`", "location": "west"}`)
	return fmt.Sprintf(`{%s
"location": "west",
"properties": {
"source": %s,
"customize": [%s],
"distribute": [%s]%s
}%s
}`, identity, source, d.customize, distribute, d.properties, d.top)
}

func (d draft) parse() Result {
	return Parse([]byte(d.text()), Options{APIVersion: d.version, Service: d.service})
}

func brief(ps []Problem) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "  %s %s %s at %d:%d: %s\n", p.Severity, p.Code, p.Pointer, p.Line, p.Column, p.Message)
	}
	return b.String()
}

// want is one expected problem; message is a part of it.
type want struct {
	severity Severity
	code     arm.Code
	pointer  string
	message  string
}

func failure(pointer, message string) want {
	return want{SeverityError, arm.CodeValidationFailed, pointer, message}
}

func warning(pointer, message string) want {
	return want{SeverityWarning, arm.CodeValidationFailed, pointer, message}
}

func notYet(pointer, message string) want {
	return want{SeverityWarning, arm.CodeNotSupported, pointer, message}
}

// checkProblems holds problems against what is wanted, in order.
func checkProblems(t *testing.T, r Result, wants []want) {
	t.Helper()
	if len(r.Problems) != len(wants) {
		t.Errorf("%d problems, want %d:\n%s", len(r.Problems), len(wants), brief(r.Problems))
		return
	}
	failed := false
	for i, w := range wants {
		p := r.Problems[i]
		failed = failed || w.severity == SeverityError
		if p.Severity != w.severity || p.Code != w.code || p.Pointer != w.pointer || !strings.Contains(p.Message, w.message) {
			t.Errorf("problem %d is %s want    %s %s %s: …%s…", i, brief(r.Problems[i:i+1]), w.severity, w.code, w.pointer, w.message)
		}
		if p.NotExecutable != (w.code == arm.CodeNotSupported && w.severity == SeverityWarning) {
			t.Errorf("problem %d: NotExecutable is %t", i, p.NotExecutable)
		}
	}
	if failed != (r.Template == nil) {
		t.Errorf("template nil is %t with an error %t", r.Template == nil, failed)
	}
}

type ruleCase struct {
	name  string
	draft draft
	wants []want
}

func runRules(t *testing.T, cases []ruleCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if !json.Valid([]byte(tc.draft.text())) {
				t.Fatalf("the test's own body is not JSON:\n%s", tc.draft.text())
			}
			checkProblems(t, tc.draft.parse(), tc.wants)
		})
	}
}

// The plain draft is valid in every version, and means the same in all.
func TestEveryVersionHasAValidTemplate(t *testing.T) {
	for _, v := range Versions() {
		t.Run(v, func(t *testing.T) {
			d := draft{version: v}
			if v == "2018-02-01-preview" {
				d.distribute = `{"type": "managedImage", "runOutputName": "out", "imageId": "` + imageID + `", "location": "west"}`
			}
			r := d.parse()
			checkProblems(t, r, nil)
			want := &Template{
				APIVersion: v, Location: "west",
				Source: Source{Type: PlatformImage, Publisher: "Debian", Offer: "debian-12", SKU: "12-gen2", Version: "latest"},
				Distribute: []Distributor{{Type: ToManagedImage, Pointer: "/properties/distribute/0", RunOutputName: "out",
					ImageID: imageID, Location: "west"}},
				ErrorHandling: ErrorHandling{OnCustomizerError: Cleanup, OnValidationError: Cleanup},
				BuildTimeout:  4 * time.Hour,
			}
			if v >= "2020" {
				want.Identity = &Identity{Type: "UserAssigned", UserAssigned: []string{identityID}}
			}
			if d := cmp.Diff(want, r.Template, sameID); d != "" {
				t.Errorf("template (-want +got):\n%s", d)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	valid := draft{version: "2019-05-01-preview"}.text()
	with := func(version string) string { return strings.Replace(valid, "{", `{"apiVersion": "`+version+`",`, 1) }
	for _, tc := range []struct {
		name, file string
		options    Options
		version    string // "" for none
		wants      []want
	}{
		{"from the file", with("2019-05-01-preview"), Options{}, "2019-05-01-preview", nil},
		{"from the file in another case", with("2019-05-01-PREVIEW"), Options{}, "2019-05-01-preview", nil},
		{"the option wins", with("2019-05-01-preview"), Options{APIVersion: "2019-02-01-preview"}, "2019-02-01-preview", nil},
		{"a request's is the option", with("2018-02-01-preview"), Options{APIVersion: "2019-05-01-preview", Service: true}, "2019-05-01-preview", nil},
		{"none", valid, Options{}, "", []want{{SeverityError, arm.CodeInvalidAPIVersion, "", "the file has no apiVersion: give it with --api-version"}}},
		{"a body is not asked in a request", with("2019-05-01-preview"), Options{Service: true}, "",
			[]want{{SeverityError, arm.CodeInvalidAPIVersion, "", "no apiVersion"}}},
		{"unknown", with("2019-06-01"), Options{}, "", []want{{SeverityError, arm.CodeInvalidAPIVersion, "/apiVersion",
			"The api-version '2019-06-01' is invalid. The supported versions are '2018-02-01-preview,2019-02-01-preview,"}}},
		{"unfilled", with("<v>"), Options{AllowPlaceholders: true}, "", []want{
			{SeverityError, arm.CodeInvalidAPIVersion, "/apiVersion", "the API version is not filled in"},
			{SeverityWarning, arm.CodePlaceholder, "/apiVersion", "<v>"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Parse([]byte(tc.file), tc.options)
			checkProblems(t, r, tc.wants)
			if r.Template != nil && r.Template.APIVersion != tc.version {
				t.Errorf("version %s, want %s", r.Template.APIVersion, tc.version)
			}
		})
	}
}

func TestParseRefusesOtherDocuments(t *testing.T) {
	const o = "2022-07-01"
	valid := draft{version: o}.text()
	for _, tc := range []struct {
		name, file string
		want       want
		line       int
	}{
		{"broken", "{\n\"a\": }", want{SeverityError, arm.CodeInvalidJSON, "", "this is not JSON"}, 2},
		{"comment", "{\n  // the region\n}", want{SeverityError, arm.CodeInvalidJSON, "", "comments are not allowed in JSON"}, 2},
		{"comment in a deployment", "{\"$schema\": \"https://x/deploymentTemplate.json#\",\n//\n}",
			want{SeverityError, arm.CodeInvalidJSON, "", "this looks like a deployment template"}, 2},
		{"array", "[]", want{SeverityError, arm.CodeInvalidJSON, "", "a JSON object, not an array"}, 1},
		{"too large", strings.Repeat(" ", 5<<20), want{SeverityError, arm.CodeTooLarge, "", "at most 4194304"}, 0},
		{"too deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), want{SeverityError, arm.CodeTooLarge, "", "nested more than 100 deep"}, 1},
		{"too many values", "[" + strings.Repeat("1,", 200_000) + "1]", want{SeverityError, arm.CodeTooLarge, "", "more than 100000 values"}, 1},
		{"schema", `{"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"}`,
			want{SeverityError, arm.CodeNotSupported, "", "this is a deployment template, not an image template"}, 1},
		{"resources", `{"resources": []}`,
			want{SeverityError, arm.CodeNotSupported, "", "this looks like a deployment template without its '$schema'"}, 1},
		{"parameters", `{"$schema": "x/deploymentParameters.json#"}`, want{SeverityError, arm.CodeNotSupported, "", "parameters file"}, 1},
		{"form", `{"$schema": "x/createUIDefinition.MultiVm.json#"}`, want{SeverityError, arm.CodeNotSupported, "", "form of the portal"}, 1},
		{"expression", strings.Replace(valid, `"west"`, `"[parameters('location')]"`, 1),
			want{SeverityError, arm.CodeNotSupported, "/location", "an expression of a deployment template (the first of 1)"}, 2},
		{"expression as a key", strings.Replace(valid, identityID, "[resourceId('x', 'y')]", 1), want{SeverityError, arm.CodeNotSupported,
			"/identity/userAssignedIdentities/[resourceId('x', 'y')]", "an expression of a deployment template"}, 1},
		{"copy", strings.Replace(valid, "{", `{"location": "west", "COPY": {},`, 1), want{SeverityError, arm.CodeNotSupported, "/COPY", "belongs to a deployment"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Parse([]byte(tc.file), Options{APIVersion: o})
			var errors []Problem
			for _, p := range r.Problems {
				if p.Severity == SeverityError {
					errors = append(errors, p)
				}
			}
			checkProblems(t, Result{Problems: errors}, []want{tc.want})
			if len(errors) == 1 && errors[0].Line != tc.line {
				t.Errorf("line %d, want %d", errors[0].Line, tc.line)
			}
		})
	}
}

// What looks like an expression or a placeholder is only text in commands and
// in requests.
func TestParseKeepsText(t *testing.T) {
	for name, command := range map[string]string{
		"test":      "[ -f /etc/os-release ]",
		"bash test": "[[ -n $(id) ]]",
		"type":      "[System.Net.ServicePointManager]::SecurityProtocol",
		"escaped":   "[[concat('a')]",
		"heredoc":   "cat <<EOF>/tmp/x",
		"redirect":  "sort <list >sorted",
		"html":      "echo '<html><b>x</b></html>' > /tmp/index.html",
	} {
		t.Run(name, func(t *testing.T) {
			quoted, err := json.Marshal(command)
			if err != nil {
				t.Fatal(err)
			}
			r := draft{version: "2022-07-01", customize: `{"type": "Shell", "inline": [` + string(quoted) + `]}`}.parse()
			checkProblems(t, r, nil)
			if r.Template != nil && r.Template.Customize[0].Inline[0] != command {
				t.Errorf("inline is %q, want %q", r.Template.Customize[0].Inline[0], command)
			}
		})
	}
	r := draft{version: "2022-07-01", service: true, top: `, "tags": {"a": "<b>", "c": "[concat('d')]"}`}.parse()
	checkProblems(t, r, nil)
	if d := cmp.Diff(map[string]string{"a": "<b>", "c": "[concat('d')]"}, r.Template.Tags); d != "" {
		t.Errorf("tags (-want +got):\n%s", d)
	}
}

func TestParseBoundsProblems(t *testing.T) {
	var b strings.Builder
	for i := range 3 * maxProblems {
		fmt.Fprintf(&b, `, "field%d": 1`, i)
	}
	for _, tc := range []struct {
		version  string
		severity Severity
	}{{"2022-07-01", SeverityWarning}, {"2024-02-01", SeverityError}} {
		r := draft{version: tc.version, top: b.String()}.parse()
		last := r.Problems[len(r.Problems)-1]
		if len(r.Problems) != maxProblems+1 || last.Severity == "" || !strings.Contains(last.Message, "1000 more problems") {
			t.Errorf("%s: %d problems, the last: %s", tc.version, len(r.Problems), last.Message)
		}
		if (r.Template == nil) != (tc.severity == SeverityError) {
			t.Errorf("%s: template nil is %t", tc.version, r.Template == nil)
		}
	}
}
