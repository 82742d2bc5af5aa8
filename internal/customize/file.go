package customize

import (
	"context"
	"fmt"

	"goldsmith/internal/arm"
	"goldsmith/internal/plan"
)

// file uploads the step's artifact as the build user, who may write only where
// the real service's user may.
func (r Runner) file(ctx context.Context, step plan.Step) error {
	if step.Artifact == nil {
		return arm.Errorf(arm.CodeInternal, "file customizer %q has no frozen artifact", step.Name).At(step.Pointer)
	}
	content, err := r.Content.Open(step.Artifact.SHA256)
	if err != nil {
		return fmt.Errorf("open the frozen copy of %s: %w", step.FileName(), err)
	}
	defer content.Close()
	if err := r.Session.Upload(ctx, content, step.FileName(), step.Destination, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", step.Destination, err)
	}
	_, err = fmt.Fprintf(r.Stdout, "%s -> %s (%d bytes)\n", step.FileName(), step.Destination, step.Artifact.Size)
	return err
}
