//go:build conformance

package imagetemplate

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/conformance"
)

// verdict is why a file is valid or not. A file with an error is invalid.
type verdict struct {
	path string
	why  string
	// errors are parts of the messages of all errors, in file order.
	errors []string
	// notExecutable are the pointers of what a build cannot carry out yet.
	notExecutable []string
}

const (
	linuxOnly    = "a Linux build with everything its version asks for"
	optional     = "valid: identity is optional in 2019-05-01-preview"
	windowsSteps = "valid, but its customizers need Windows"
)

func numbered(prefix string, numbers ...string) []string {
	var out []string
	for _, n := range numbers {
		out = append(out, prefix+n)
	}
	return out
}

const (
	steps = "/properties/customize/"
)

// bodyVerdicts has one entry for every file that is listed as the body of a
// template. They are read as files for `goldsmith validate`.
var bodyVerdicts = []verdict{
	{path: "Azure_avdaccelerator/workload/portal-ui/portal-ui-custom-image.json", why: "a form of the portal, not a template",
		errors: []string{"a form of the portal"}},
	{path: "Azure_azvmimagebuilder/quickquickstarts/0_Creating_a_Custom_Linux_Managed_Image/helloImageTemplateLinux.json", why: linuxOnly},
	{path: "Azure_azvmimagebuilder/quickquickstarts/4_Creating_a_Custom_Linux_Image_to_VHD/helloImageTemplateVHD.json",
		why: "2020-02-14 requires an identity, and there is none", errors: []string{"'ImageTemplate': Missing field 'identity'"}},
	{path: "Azure_azvmimagebuilder/quickquickstarts/7_Creating_Custom_Image_using_MSI_to_Access_Storage/helloImageTemplateMsi.json", why: linuxOnly},
	{path: "Azure_azvmimagebuilder/quickquickstarts/9_Setting_up_a_Trigger_with_a_Custom_Linux_Image/helloImageTemplate.json",
		why: linuxOnly + "; its exactVersion is read-only and ignored"},
	{path: "JimMoyle_CloudImageBuilder/Templates/SampleTemplates/helloImageTemplateWin.old.json", why: optional + "; " + windowsSteps,
		notExecutable: numbered(steps, "0", "1", "3")},
	{path: "casa-de-vops_azvmimagebuilder/templates/0_Creating_a_Custom_Linux_Managed_Image/helloImageTemplateLinux.json",
		why: linuxOnly + "; osDiskSizeGB came later and is ignored"},
	{path: "casa-de-vops_azvmimagebuilder/templates/0_Creating_a_Custom_Windows_Managed_Image/helloImageTemplateWin.json",
		why:           "WindowsUpdate came with 2020-02-14, and the file is of 2019-05-01-preview",
		errors:        []string{"in 2019-05-01-preview there is no WindowsUpdate: it came with API version 2020-02-14"},
		notExecutable: numbered(steps, "0", "1", "3")},
	{path: "casa-de-vops_azvmimagebuilder/templates/1_Creating_a_Custom_Linux_Shared_Image_Gallery_Image/helloImageTemplateforSIG.json",
		why: linuxOnly + "; the short type is allowed, osDiskSizeGB came later and is ignored"},
	{path: "casa-de-vops_azvmimagebuilder/templates/2_Creating_a_Custom_Linux_Shared_Image_Gallery_Image_from_SIG/helloImageTemplateforSIGfromSIG.json", why: linuxOnly},
	{path: "casa-de-vops_azvmimagebuilder/templates/3_Customize_a_Managed_Image_and_Import_into_SIG/helloImageTemplateforReCustomization.json", why: linuxOnly},
	{path: "casa-de-vops_azvmimagebuilder/templates/7_Creating_Custom_Image_using_MSI_to_Access_Storage/helloImageTemplateMsi.json", why: linuxOnly},
	{path: "casa-de-vops_azvmimagebuilder/templates/9_Updating_Image_Builder_Templates/helloImageTemplateVersion.json", why: optional},
	{path: "danielsollondon_azvmimagebuilder/testingArea/suse/5_Creating_a_Custom_Image_from_Existing_SLES_Managed_Image/SLESImageTemplateforReCustomization.json", why: optional},
	{path: "dstamand-msft_DevBoxImageBuilder/IaC/ProvisionAll/aib.parameters.json", why: "the parameters of a deployment, not a template",
		errors: []string{"the parameters file of a deployment"}},
	{path: "lenvolk_images-using-azure-image-builder/02/demos/Code/ImageTemplate.json", why: windowsSteps,
		notExecutable: numbered(steps, "0", "1", "3", "4")},
	{path: "lenvolk_images-using-azure-image-builder/LenVolk/AIB-ChocoWin11.json",
		why:           windowsSteps + " and it builds on a network of the user's; runElevated and validExitCodes as strings are understood in 2020-02-14",
		notExecutable: numbered(steps, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")},
}

var allWindowsSteps = numbered(steps, "0", "1", "2", "3", "4", "5", "6", "7")

// exampleVerdicts has one entry for every example that creates a template. They
// are read as requests.
var exampleVerdicts = []verdict{
	{path: "api-examples/2018-02-01-preview/CreateImageTemplate.json",
		why:           "valid in the oldest version, with lower-case types; its tags in a distributor are unknown and ignored; an ISO cannot be built from",
		notExecutable: []string{"/properties/source"}},
	{path: "api-examples/2019-02-01-preview/CreateImageTemplate.json", why: "valid: script was the name then; its tags in a distributor are unknown and ignored"},
	{path: "api-examples/2019-05-01-preview/CreateImageTemplate.json", why: optional},
	{path: "api-examples/2020-02-14/CreateImageTemplateLinux.json", why: "valid, on a network of the user's"},
	{path: "api-examples/2020-02-14/CreateImageTemplateWindows.json", why: windowsSteps, notExecutable: allWindowsSteps},
	{path: "api-examples/2021-10-01/CreateImageTemplateWindows.json", why: windowsSteps, notExecutable: allWindowsSteps},
	{path: "api-examples/2022-02-14/CreateImageTemplateLinux.json", why: "valid, on a network of the user's"},
	{path: "api-examples/2022-02-14/CreateImageTemplateWindows.json", why: windowsSteps, notExecutable: allWindowsSteps},
	{path: "api-examples/2022-07-01/CreateImageTemplateWindows.json", why: windowsSteps, notExecutable: allWindowsSteps},
	{path: "api-examples/2023-07-01/CreateImageTemplateLinux.json", why: "valid, on a network of the user's"},
	{path: "api-examples/2023-07-01/CreateImageTemplateWindows.json", why: windowsSteps, notExecutable: allWindowsSteps},
}

// corpusFile is one line of the list of files.
type corpusFile struct{ path, kind, version string }

func corpus(t *testing.T) []corpusFile {
	t.Helper()
	var out []corpusFile
	for i, line := range strings.Split(string(conformance.Read(t, "templates", "INDEX.tsv")), "\n") {
		columns := strings.Split(line, "\t")
		if i == 0 || len(columns) < 3 {
			continue
		}
		out = append(out, corpusFile{columns[0], columns[1], columns[2]})
	}
	if len(out) < 100 {
		t.Fatalf("the list has %d files only", len(out))
	}
	return out
}

// checkVerdicts judges every file by its entry; a file without an entry and an
// entry without a file are failures.
func checkVerdicts(t *testing.T, verdicts []verdict, results map[string]Result) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range verdicts {
		seen[v.path] = true
		r, ok := results[v.path]
		if !ok {
			t.Errorf("%s has an entry, but there is no such file", v.path)
			continue
		}
		t.Run(v.path, func(t *testing.T) {
			t.Logf("%s", v.why)
			var errors, notExecutable []string
			for _, p := range r.Problems {
				if p.Severity == SeverityError {
					errors = append(errors, p.Message)
				}
				if p.NotExecutable {
					notExecutable = append(notExecutable, p.Pointer)
				}
			}
			if !slices.EqualFunc(v.errors, errors, func(want, got string) bool { return strings.Contains(got, want) }) {
				t.Errorf("errors %q, want %q", errors, v.errors)
			}
			if !slices.Equal(v.notExecutable, notExecutable) {
				t.Errorf("not executable %q, want %q", notExecutable, v.notExecutable)
			}
			if (r.Template != nil) != (len(v.errors) == 0) {
				t.Errorf("valid is %t:\n%s", r.Template != nil, brief(r.Problems))
			}
		})
	}
	for path := range results {
		if !seen[path] {
			t.Errorf("%s has no entry that says why it is valid or not", path)
		}
	}
}

func TestConformanceBodies(t *testing.T) {
	results := map[string]Result{}
	for _, f := range corpus(t) {
		if f.kind == "template-body" {
			text := conformance.Read(t, "templates", f.path)
			results[f.path] = Parse(text, Options{AllowPlaceholders: true})
			if r := Parse(text, Options{}); strings.Contains(string(text), "<region") && r.Template != nil {
				t.Errorf("%s is valid with unfilled placeholders", f.path)
			}
		}
	}
	checkVerdicts(t, bodyVerdicts, results)
}

func TestConformanceExamples(t *testing.T) {
	results := map[string]Result{}
	for _, f := range corpus(t) {
		if f.kind != "api-example" {
			continue
		}
		var example struct {
			Parameters struct {
				Parameters struct {
					Properties struct {
						Source json.RawMessage `json:"source"`
					} `json:"properties"`
				} `json:"parameters"`
			} `json:"parameters"`
		}
		var raw struct {
			Parameters struct {
				Parameters json.RawMessage `json:"parameters"`
			} `json:"parameters"`
		}
		text := conformance.Read(t, "templates", f.path)
		if json.Unmarshal(text, &example) != nil || json.Unmarshal(text, &raw) != nil {
			t.Errorf("%s is not an example", f.path)
			continue
		}
		if example.Parameters.Parameters.Properties.Source == nil {
			continue // creates nothing, or a trigger
		}
		results[f.path] = Parse(raw.Parameters.Parameters, Options{APIVersion: f.version, Service: true})
	}
	checkVerdicts(t, exampleVerdicts, results)
}

// Deployment templates, roles and broken files are refused, each in its way.
func TestConformanceOtherFiles(t *testing.T) {
	count := map[string]int{}
	for _, f := range corpus(t) {
		text := conformance.Read(t, "templates", f.path)
		var code arm.Code
		switch f.kind {
		case "arm-deployment":
			code = arm.CodeNotSupported
		case "INVALID-JSON":
			code = arm.CodeInvalidJSON
		case "role":
			code = arm.CodeInvalidAPIVersion
		default:
			continue
		}
		count[f.kind]++
		r := Parse(text, Options{AllowPlaceholders: true})
		if r.Template != nil || r.Problems[0].Code != code || r.Problems[0].Severity != SeverityError || r.Problems[0].Line == 0 {
			t.Errorf("%s (%s) wants the error %s:\n%s", f.path, f.kind, code, brief(r.Problems))
		}
	}
	if count["arm-deployment"] == 0 || count["INVALID-JSON"] == 0 || count["role"] == 0 {
		t.Errorf("files read: %v", count)
	}
}

// guidPlaceholder is what a recording has in the place of a subscription.
var guidPlaceholder = regexp.MustCompile(`\{[A-Za-z0-9]+\}`)

// What the real service was recorded to accept is accepted.
func TestConformanceRecordings(t *testing.T) {
	bodies := 0
	for _, file := range conformance.Glob(t, "recordings", "*.json") {
		var recording struct {
			Exchanges []struct {
				Method, Path, Query string
				RequestBody         json.RawMessage `json:"requestBody"`
				Status              int
			}
		}
		if err := json.Unmarshal(conformance.Read(t, file), &recording); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, e := range recording.Exchanges {
			path := strings.ToLower(e.Path)
			if e.Method != "PUT" || e.Status != 201 || !strings.Contains(path, "/imagetemplates/") || strings.Contains(path, "/triggers/") {
				continue
			}
			if e.RequestBody[0] != '{' {
				continue // the recording says that the body was not kept
			}
			query, err := url.ParseQuery(e.Query)
			if err != nil {
				t.Fatal(err)
			}
			bodies++
			body := guidPlaceholder.ReplaceAll(e.RequestBody, []byte("x"))
			r := Parse(body, Options{APIVersion: query.Get("api-version"), Service: true})
			if r.Template == nil {
				t.Errorf("%s: the body for %s was accepted by the real service:\n%s\n%s", filepath.Base(file), e.Path, body, brief(r.Problems))
			}
		}
	}
	if bodies < 5 {
		t.Errorf("only %d recorded bodies", bodies)
	}
	t.Logf("%d recorded bodies", bodies)
}
