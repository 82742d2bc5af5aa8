package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestExitCode(t *testing.T) {
	tests := map[string]struct {
		err  error
		want int
	}{
		"none":                  {nil, 0},
		"foreign":               {errors.New("x"), 1},
		"step":                  {arm.Errorf(arm.CodeStepFailed, "x"), 1},
		"invalid":               {arm.Errorf(arm.CodeValidationFailed, "x"), 1},
		"usage":                 {fmt.Errorf("parse: %w", arm.Errorf(arm.CodeUsage, "x")), 2},
		"placeholder":           {arm.Errorf(arm.CodePlaceholder, "x"), 2},
		"canceled":              {arm.Errorf(arm.CodeCanceled, "x"), 130},
		"context":               {fmt.Errorf("wait: %w", context.Canceled), 130},
		"coded over context":    {arm.Errorf(arm.CodeStepFailed, "x: %w", context.Canceled), 1},
		"outermost code counts": {arm.Errorf(arm.CodeStepFailed, "x: %w", arm.Errorf(arm.CodeCanceled, "y")), 1},
		"deadline":              {context.DeadlineExceeded, 1},
		"guest command":         {fmt.Errorf("boot: %w", ExitStatus{Code: 42}), 42},
		"guest command 255":     {ExitStatus{Code: 255}, 255},
		"impossible status":     {ExitStatus{Code: 256}, 1},
		"status 0 is no excuse": {errors.Join(ExitStatus{}, errors.New("x")), 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ExitCode(test.err); got != test.want {
				t.Errorf("ExitCode(%v) is %d, want %d", test.err, got, test.want)
			}
		})
	}
}

func TestWriteFault(t *testing.T) {
	many := &arm.Error{Code: arm.CodeValidationFailed, Message: "many"}
	for range maxFaultDetails + 3 {
		many.Details = append(many.Details, &arm.Error{Message: "d"})
	}
	tests := map[string]struct {
		err  error
		want string
	}{
		"none":    {nil, ""},
		"status":  {fmt.Errorf("boot: %w", ExitStatus{Code: 3}), ""},
		"plain":   {errors.New("it broke"), "goldsmith: it broke\n"},
		"lines":   {errors.New("one\ntwo\x1b[2J"), "goldsmith: one\n  two\n"},
		"details": {&arm.Error{Message: "the template has 1 error", Target: "t.json", Details: []*arm.Error{{Target: "/properties", Message: "no source"}}}, "goldsmith: t.json: the template has 1 error\n  /properties: no source\n"},
		"many":    {many, "goldsmith: many\n" + strings.Repeat("  d\n", maxFaultDetails) + "  ... and 3 more\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := WriteFault(&out, test.err); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
