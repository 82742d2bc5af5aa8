// Package customize runs the customizers of a plan in a guest: one executor per
// customizer type, each step in sessions of its own.
package customize

import (
	"context"
	"io"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
)

// Content opens frozen artifacts by digest.
type Content interface {
	// Open returns the content whose sha256 (lower-case hex) is digest; reading
	// it fails if it is not.
	Open(digest string) (*os.File, error)
}

// Runner runs steps over one connection to a guest.
type Runner struct {
	Session guest.Session
	Content Content
	// Secret is the content of a secret that a step is given.
	Secret func(name string) ([]byte, error)
	// Stdout and Stderr receive what a step writes.
	Stdout, Stderr io.Writer
}

// Run executes step. A failing script is an arm.Error CodeStepFailed; a broken
// connection CodeGuestLost.
func (r Runner) Run(ctx context.Context, step plan.Step) error {
	switch step.Type {
	case imagetemplate.Shell:
		return r.shell(ctx, step)
	case imagetemplate.File:
		return r.file(ctx, step)
	}
	return arm.Errorf(arm.CodeNotSupported, "%s customizers cannot be run yet", step.Type).At(step.Pointer)
}
