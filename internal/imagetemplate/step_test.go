package imagetemplate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStepRules(t *testing.T) {
	const at = "/properties/customize/0"
	customize := func(version, step string) draft { return draft{version: version, customize: step} }
	shell := func(version, rest string) draft {
		return customize(version, `{"type": "Shell", `+rest+`}`)
	}
	upper := strings.ToUpper(sum)
	windows := func(kind string) want {
		return notYet(at, kind+" needs a Windows machine")
	}
	runRules(t, []ruleCase{
		{"no type", customize("2020-02-14", `{"name": "x"}`), []want{failure(at, "'ImageTemplate.properties.customize[0]': Missing field 'type'")}},
		{"unknown type", customize("2020-02-14", `{"type": "Ansible"}`), []want{failure(at+"/type",
			"Field 'type' has a bad value: 'Ansible'. Please review  http://aka.ms/azvmimagebuildertmplref  for details on fields requirements in the Image Builder Template. Cause: it must be one of Shell, PowerShell, File, WindowsRestart, WindowsUpdate.")}},
		{"null", customize("2020-02-14", `null`), []want{failure(at, "an object is expected, not null")}},
		{"type of 2018", customize("2018-02-01-preview", `{"type": "shell", "script": "https://h/x.sh"}`), nil},
		{"type of 2018 misspelled", customize("2018-02-01-preview", `{"type": "bash"}`), []want{failure(at+"/type", "it must be one of shell.")}},
		{"type in another case", customize("2023-07-01", `{"type": "sHELL", "inline": ["id"]}`), nil},
		{"type in another case, strict", customize("2024-02-01", `{"type": "shell", "inline": ["id"]}`),
			[]want{failure(at+"/type", "write Shell: from API version 2024-02-01 on case counts")}},
		{"type before its time", customize("2019-05-01-preview", `{"type": "WindowsUpdate"}`),
			[]want{failure(at+"/type", "in 2019-05-01-preview there is no WindowsUpdate: it came with API version 2020-02-14")}},
		{"no script", shell("2020-02-14", `"name": "x"`), []want{failure(at, "Missing field 'scriptUri'")}},
		{"no script in 2018", customize("2018-02-01-preview", `{"type": "shell"}`), []want{failure(at, "Missing field 'script'")}},
		{"inline in 2018", customize("2018-02-01-preview", `{"type": "shell", "inline": ["id"]}`), []want{
			failure(at, "Missing field 'script'"),
			warning(at+"/inline", "it came with API version 2019-02-01-preview")}},
		{"script after its time", shell("2020-02-14", `"script": "https://h/x.sh", "inline": ["id"]`),
			[]want{warning(at+"/script", "the last API version with it is 2019-02-01-preview")}},
		{"empty scripts", shell("2020-02-14", `"scriptUri": "", "inline": []`), []want{failure(at, "exactly one of scriptUri and inline is needed")}},
		{"both scripts", shell("2025-10-01", `"scriptUri": "https://h/x.sh", "inline": ["id"]`), []want{failure(at, "has both 'scriptUri' and 'inline'")}},
		{"bare inline", shell("2023-07-01", `"inline": "id"`), []want{warning(at+"/inline", "'inline' is a string, not an array: it is taken as an array of one element")}},
		{"bare inline, strict", shell("2024-02-01", `"inline": "id"`), []want{failure(at+"/inline",
			"unmarshalling type *v2024_02_01.ImageTemplateShellCustomizer: struct field Inline: json: cannot unmarshal string into Go value of type []*string. There is an issue with the syntax")}},
		{"number in inline", shell("2023-07-01", `"inline": [1]`), []want{warning(at+"/inline/0", "'inline[0]' is a number and is read as a string")}},
		{"object in inline", shell("2023-07-01", `"inline": [{}]`), []want{failure(at+"/inline/0", "Field 'inline[0]' has a bad value: '{}'")}},
		{"sum", shell("2019-05-01-preview", `"scriptUri": "https://h/x.sh", "sha256Checksum": "`+upper+`"`), nil},
		{"short sum", shell("2020-02-14", `"scriptUri": "https://h/x.sh", "sha256Checksum": "abc"`), []want{failure(at+"/sha256Checksum", "64 hexadecimal digits")}},
		{"sum of inline", shell("2020-02-14", `"inline": ["id"], "sha256Checksum": "`+sum+`"`), []want{failure(at+"/sha256Checksum", "it goes only with scriptUri")}},
		{"path", shell("2020-02-14", `"scriptUri": "scripts/100% done.sh"`), nil},
		{"file address", shell("2020-02-14", `"scriptUri": "file:///srv/x.sh"`), nil},
		{"file address of another host", shell("2020-02-14", `"scriptUri": "file://host/x.sh"`), []want{failure(at+"/scriptUri", "file:///PATH")}},
		{"ftp", shell("2020-02-14", `"scriptUri": "ftp://h/x.sh"`), []want{failure(at+"/scriptUri", "an absolute http or https address, or a path")}},
		{"no host", shell("2020-02-14", `"scriptUri": "https:///x.sh"`), []want{failure(at+"/scriptUri", "an absolute http or https address")}},
		{"NUL", shell("2020-02-14", `"scriptUri": "a\u0000b"`), []want{failure(at+"/scriptUri", "NUL")}},
		{"path in a request", draft{version: "2020-02-14", service: true, customize: `{"type": "Shell", "scriptUri": "x.sh"}`},
			[]want{failure(at+"/scriptUri", "an absolute http or https address")}},
		{"file address in a request", draft{version: "2020-02-14", service: true, customize: `{"type": "Shell", "scriptUri": "file:///x.sh"}`},
			[]want{failure(at+"/scriptUri", "an absolute http or https address")}},
		{"ftp in a request", draft{version: "2020-02-14", service: true, customize: `{"type": "Shell", "scriptUri": "ftp://h/x.sh"}`},
			[]want{failure(at+"/scriptUri", "an absolute http or https address.")}},
		{"file", customize("2019-05-01-preview", `{"type": "File", "sourceUri": "https://h/x", "destination": "/tmp/x"}`), nil},
		{"file without fields", customize("2020-02-14", `{"type": "File"}`), []want{failure(at, "'sourceUri'"), failure(at, "'destination'")}},
		{"file to a relative path", customize("2020-02-14", `{"type": "File", "sourceUri": "https://h/x", "destination": "tmp/x"}`),
			[]want{failure(at+"/destination", "the path must be absolute")}},
		{"elevated system", customize("2020-02-14", `{"type": "PowerShell", "inline": ["x"], "runElevated": true, "runAsSystem": true}`), []want{windows("PowerShell")}},
		{"system without elevation", customize("2020-02-14", `{"type": "PowerShell", "inline": ["x"], "runAsSystem": true}`),
			[]want{windows("PowerShell"), failure(at+"/runAsSystem", "only when runElevated is true")}},
		{"strings for scalars", customize("2023-07-01", `{"type": "PowerShell", "inline": ["x"], "runElevated": "False", "validExitCodes": ["0", 3010.0]}`), []want{
			windows("PowerShell"),
			warning(at+"/runElevated", "is a string and is read as a boolean"),
			warning(at+"/validExitCodes/0", "is a string and is read as an integer"),
			warning(at+"/validExitCodes/1", "is a number and is read as an integer")}},
		{"strings for scalars, strict", customize("2024-02-01", `{"type": "PowerShell", "inline": ["x"], "runElevated": "false", "validExitCodes": ["0"]}`), []want{
			windows("PowerShell"),
			failure(at+"/runElevated", "struct field RunElevated: json: cannot unmarshal string into Go value of type bool"),
			failure(at+"/validExitCodes/0", "struct field ValidExitCodes: json: cannot unmarshal string into Go value of type int32")}},
		{"negative exit code", customize("2024-02-01", `{"type": "PowerShell", "inline": ["x"], "validExitCodes": [-1]}`), []want{windows("PowerShell")}},
		{"restart", customize("2020-02-14", `{"type": "WindowsRestart", "restartTimeout": "1h30m"}`), []want{windows("WindowsRestart")}},
		{"restart without unit", customize("2020-02-14", `{"type": "WindowsRestart", "restartTimeout": "5"}`),
			[]want{windows("WindowsRestart"), failure(at+"/restartTimeout", "a number with a unit")}},
		{"restart in no time", customize("2020-02-14", `{"type": "WindowsRestart", "restartTimeout": "-5m"}`),
			[]want{windows("WindowsRestart"), failure(at+"/restartTimeout", "a number with a unit")}},
		{"negative limit", customize("2020-02-14", `{"type": "WindowsUpdate", "updateLimit": -1}`),
			[]want{windows("WindowsUpdate"), failure(at+"/updateLimit", "it must be at least 0")}},
	})
}

func TestStepValues(t *testing.T) {
	r := draft{version: "2020-02-14", customize: `
{"type": "Shell", "name": "a", "scriptUri": "https://h/x.sh", "sha256Checksum": "` + strings.ToUpper(sum) + `"},
{"type": "PowerShell", "inline": ["x", "y"], "runElevated": "TRUE", "runAsSystem": true, "validExitCodes": ["0", 3010]},
{"type": "PowerShell", "scriptUri": "x.ps1"},
{"type": "File", "sourceUri": "https://h/x", "destination": "/tmp/x", "sha256Checksum": "` + sum + `"},
{"type": "WindowsRestart"},
{"type": "WindowsRestart", "restartCommand": "r", "restartCheckCommand": "c", "restartTimeout": "10m"},
{"type": "WindowsUpdate"},
{"type": "WindowsUpdate", "searchCriteria": "IsInstalled=0", "filters": ["include:$true"], "updateLimit": 20}`}.parse()
	if r.Template == nil {
		t.Fatalf("no template:\n%s", brief(r.Problems))
	}
	p := func(i string) string { return "/properties/customize/" + i }
	want := []Customizer{
		{Type: Shell, Name: "a", Pointer: p("0"), ScriptURI: "https://h/x.sh", SHA256: sum},
		{Type: PowerShell, Pointer: p("1"), Inline: []string{"x", "y"}, RunElevated: true, RunAsSystem: true, ValidExitCodes: []int{0, 3010}},
		{Type: PowerShell, Pointer: p("2"), ScriptURI: "x.ps1", ValidExitCodes: []int{0}},
		{Type: File, Pointer: p("3"), SourceURI: "https://h/x", Destination: "/tmp/x", SHA256: sum},
		{Type: WindowsRestart, Pointer: p("4"), RestartCommand: `shutdown /r /f /t 0 /c "packer restart"`, RestartTimeout: 5 * time.Minute},
		{Type: WindowsRestart, Pointer: p("5"), RestartCommand: "r", RestartCheckCommand: "c", RestartTimeout: 10 * time.Minute},
		{Type: WindowsUpdate, Pointer: p("6"), UpdateLimit: 1000},
		{Type: WindowsUpdate, Pointer: p("7"), SearchCriteria: "IsInstalled=0", Filters: []string{"include:$true"}, UpdateLimit: 20},
	}
	if d := cmp.Diff(want, r.Template.Customize); d != "" {
		t.Errorf("customize (-want +got):\n%s", d)
	}
}

func TestValidateRules(t *testing.T) {
	const at = "/properties/validate"
	validate := func(version, v string) draft { return draft{version: version, properties: `, "validate": ` + v} }
	runRules(t, []ruleCase{
		{"nothing to do", validate("2022-02-14", `{"continueDistributeOnFailure": true, "inVMValidations": []}`), nil},
		{"before its time", validate("2021-10-01", `{}`), []want{warning(at, "it came with API version 2022-02-14")}},
		{"source only", validate("2022-02-14", `{"sourceValidationOnly": true}`), []want{
			notYet(at+"/sourceValidationOnly", "only what was built is validated")}},
		{"shell", validate("2022-02-14", `{"inVMValidations": [{"type": "Shell", "inline": ["true"]}]}`), nil},
		{"windows", validate("2022-02-14", `{"inVMValidations": [{"type": "PowerShell", "inline": ["exit 0"]}]}`), []want{
			notYet(at+"/inVMValidations/0", "PowerShell needs a Windows machine")}},
		{"no script", validate("2022-02-14", `{"inVMValidations": [{"type": "Shell"}]}`), []want{failure(at+"/inVMValidations/0",
			"'ImageTemplate.properties.validate.inVMValidations[0]': Missing field 'scriptUri'")}},
		{"file", validate("2022-07-01", `{"inVMValidations": [{"type": "File", "sourceUri": "x", "destination": "/tmp/x"}]}`), nil},
		{"file before its time", validate("2022-02-14", `{"inVMValidations": [{"type": "File"}]}`),
			[]want{failure(at+"/inVMValidations/0/type", "there is no File: it came with API version 2022-07-01")}},
		{"restart", validate("2025-10-01", `{"inVMValidations": [{"type": "WindowsRestart"}]}`),
			[]want{failure(at+"/inVMValidations/0/type", "one of Shell, PowerShell, File")}},
	})
}
