package imagetemplate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

const placeholderFile = `{
"apiVersion": "2022-07-01",
"location": "<region>",
"tags": {"note": "<two words> <3x>", "<key>": "v"},
"identity": {"type": "UserAssigned", "userAssignedIdentities": {"<identity>": {}}},
"properties": {
"source": {"type": "PlatformImage", "publisher": "p", "offer": "o", "sku": "s", "version": "latest"},
"customize": [{"type": "Shell", "inline": ["echo <region>", "cat <<EOF>x", "echo '<html>'"]}],
"vmProfile": {"osDiskSizeGB": "<size>"},
"distribute": [{"type": "ManagedImage", "runOutputName": "<name>-<region>", "location": "<region>",
  "imageId": "/subscriptions/<subscriptionID>/resourceGroups/g/providers/Microsoft.Compute/images/i"}]
}
}`

func TestPlaceholdersUnfilled(t *testing.T) {
	open := func(s Severity, pointer, message string) want { return want{s, arm.CodePlaceholder, pointer, message} }
	for _, severity := range []Severity{SeverityError, SeverityWarning} {
		r := Parse([]byte(placeholderFile), Options{AllowPlaceholders: severity == SeverityWarning})
		checkProblems(t, r, []want{
			open(severity, "/location", "the placeholder <region> is not filled (3 times): give --set region=VALUE"),
			open(severity, "/tags/<key>", "<key> is not filled: give --set key=VALUE"),
			open(severity, "/identity/userAssignedIdentities/<identity>", "<identity>"),
			warning("/properties/customize/0/inline/0", "<region> stays as it is in a command: give --set region=VALUE"),
			open(severity, "/properties/vmProfile/osDiskSizeGB", "<size>"),
			open(severity, "/properties/distribute/0/runOutputName", "<name>"),
			open(severity, "/properties/distribute/0/imageId", "<subscriptionID>"),
		})
		if r.Problems[0].Line != 3 || r.Problems[0].Column != 13 {
			t.Errorf("<region> is reported at %d:%d, want 3:13", r.Problems[0].Line, r.Problems[0].Column)
		}
		if !strings.Contains(string(r.Body), `"location":"<region>"`) {
			t.Errorf("the body lost its placeholder: %s", r.Body)
		}
	}
}

func TestPlaceholdersFilled(t *testing.T) {
	r := Parse([]byte(placeholderFile), Options{
		Set:      map[string]string{"region": "west", "key": "k", "identity": identityID, "size": "30", "name": "<out>", "EOF": "wrong", "html": "p", "Rgion": "x"},
		Defaults: map[string]string{"subscriptionID": "s", "region": "east"},
	})
	checkProblems(t, r, []want{
		warning("", "'EOF' was set, but the file has no placeholder <EOF>"),
		warning("", "'Rgion' was set, but the file has no placeholder <Rgion>; perhaps 'region' is meant"),
		warning("/properties/vmProfile/osDiskSizeGB", "is a string and is read as an integer"),
		failure("/properties/distribute/0/runOutputName", "Field 'runOutputName' has a bad value: '<out>-west'"),
	})
	for _, part := range []string{
		`"location":"west"`, `"k":"v"`, `"echo west"`, `"cat <<EOF>x"`, `"echo 'p'"`, `"osDiskSizeGB":"30"`,
		`/subscriptions/s/resourceGroups/g/`, `"note":"<two words> <3x>"`,
	} {
		if !strings.Contains(string(r.Body), part) {
			t.Errorf("the body has no %s:\n%s", part, r.Body)
		}
	}
}

// A default fills what the documents' sed step fills, but not a command.
func TestPlaceholderDefaults(t *testing.T) {
	r := Parse([]byte(`{"a": "<subscriptionID>", "inline": ["az account set -s <subscriptionID>"]}`),
		Options{APIVersion: "2019-05-01-preview", Defaults: map[string]string{"subscriptionID": "s", "other": "x"}})
	if got := string(r.Body); got != `{"a":"s","inline":["az account set -s <subscriptionID>"]}` {
		t.Errorf("body %s", got)
	}
	if !strings.Contains(brief(r.Problems), "<subscriptionID> stays as it is in a command") || strings.Contains(brief(r.Problems), "other") {
		t.Errorf("problems:\n%s", brief(r.Problems))
	}
}

// Keys that become equal count like keys that are equal in the file.
func TestPlaceholderKeysCollide(t *testing.T) {
	r := Parse([]byte(draft{version: "2022-07-01", top: `, "tags": {"<a>": "1", "b": "2"}`}.text()),
		Options{APIVersion: "2022-07-01", Set: map[string]string{"a": "b"}})
	checkProblems(t, r, []want{warning("/tags/b", "'b' is given twice")})
	if d := cmp.Diff(map[string]string{"b": "2"}, r.Template.Tags); d != "" {
		t.Errorf("tags (-want +got):\n%s", d)
	}
}
