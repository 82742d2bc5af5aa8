package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
)

var (
	badType = imagetemplate.Problem{Severity: imagetemplate.SeverityError, Code: arm.CodeValidationFailed,
		Pointer: "/properties/customize/0/type", Line: 12, Column: 15, Message: "unknown customizer \x1b[31m'Bash'"}
	noColumn = imagetemplate.Problem{Severity: imagetemplate.SeverityWarning, Pointer: "/tags", Line: 3, Message: "ignored"}
	nowhere  = imagetemplate.Problem{Severity: imagetemplate.SeverityError, Code: arm.CodeInvalidAPIVersion, Message: "no apiVersion:\nuse --api-version"}
	blank    = imagetemplate.Problem{Severity: imagetemplate.SeverityError, Code: arm.CodePlaceholder, Pointer: "/location", Line: 2, Column: 3, Message: "<region> has no value"}
	later    = imagetemplate.Problem{Severity: imagetemplate.SeverityWarning, Pointer: "/properties/validate", Line: 9, Column: 1, Message: "validate is not executed yet", NotExecutable: true}
)

func TestWriteProblems(t *testing.T) {
	tests := map[string]struct {
		problems []imagetemplate.Problem
		want     string
	}{
		"none": {nil, ""},
		"one":  {[]imagetemplate.Problem{badType}, "t.json:12:15: error: unknown customizer 'Bash' (/properties/customize/0/type)\n1 error\n"},
		"several": {[]imagetemplate.Problem{nowhere, blank, noColumn}, "t.json: error: no apiVersion: use --api-version\n" +
			"t.json:2:3: error: <region> has no value (/location)\nt.json:3: warning: ignored (/tags)\n2 errors, 1 warning\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := WriteProblems(&out, FormatTable, "t.json", test.problems); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteProblemsAsJSON(t *testing.T) {
	for _, problems := range [][]imagetemplate.Problem{{}, {badType, later}} {
		var out bytes.Buffer
		if err := WriteProblems(&out, FormatJSON, "t.json", problems); err != nil {
			t.Fatal(err)
		}
		var got struct {
			File     string
			Problems []imagetemplate.Problem
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.File != "t.json" {
			t.Errorf("the file is %q", got.File)
		}
		if diff := cmp.Diff(problems, got.Problems); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestProblemsError(t *testing.T) {
	tests := map[string]struct {
		problems []imagetemplate.Problem
		build    bool
		code     arm.Code // "" for no error
		details  int
		exit     int
	}{
		"none":                     {nil, true, "", 0, 0},
		"only warnings":            {[]imagetemplate.Problem{noColumn, later}, false, "", 0, 0},
		"not executable":           {[]imagetemplate.Problem{noColumn, later}, true, arm.CodeNotSupported, 1, 1},
		"placeholders":             {[]imagetemplate.Problem{blank, blank}, true, arm.CodePlaceholder, 2, 2},
		"placeholders and others":  {[]imagetemplate.Problem{blank, badType}, true, arm.CodeValidationFailed, 2, 1},
		"one of another code":      {[]imagetemplate.Problem{nowhere}, false, arm.CodeInvalidAPIVersion, 1, 1},
		"invalid, not executable":  {[]imagetemplate.Problem{badType, later}, true, arm.CodeValidationFailed, 2, 1},
		"invalid, only validating": {[]imagetemplate.Problem{badType, later}, false, arm.CodeValidationFailed, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := ProblemsError("t.json", test.problems, test.build)
			if got := arm.CodeOf(err); got != test.code {
				t.Errorf("the code is %q, want %q", got, test.code)
			}
			if got := ExitCode(err); got != test.exit {
				t.Errorf("the exit code is %d, want %d", got, test.exit)
			}
			var coded *arm.Error
			if errors.As(err, &coded) && len(coded.Details) != test.details {
				t.Errorf("there are %d details, want %d", len(coded.Details), test.details)
			}
		})
	}
}
