package customize

import (
	"context"
	"fmt"
	"io"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
	"goldsmith/internal/plan"
)

// inlineShebang is what the real service puts in front of inline commands: the
// first one that fails ends the step.
const inlineShebang = "#!/bin/sh -e\n"

// shell uploads the step's script and runs it with the build user's shell.
func (r Runner) shell(ctx context.Context, step plan.Step) error {
	script := fmt.Sprintf("/tmp/script_%d.sh", step.Number)
	if err := r.place(ctx, step, script); err != nil {
		return fmt.Errorf("place the script at %s: %w", script, err)
	}

	command, err := r.give(ctx, step, script)
	if err != nil {
		return fmt.Errorf("hand the step its parameters and secrets: %w", err)
	}
	exit, err := r.Session.Run(ctx, command, r.Stdout, r.Stderr)
	if err != nil {
		return err
	}
	if err := r.wipe(ctx, step); err != nil {
		return err
	}
	// The script is removed in a session of its own: it may have replaced its
	// shell or changed its directory. Whether that works is not the step's result.
	rmExit, rmErr := r.Session.Run(ctx, "rm -f "+script, io.Discard, io.Discard)
	if exit != 0 {
		return arm.Errorf(arm.CodeStepFailed, "the script exited with status %d%s", exit, exitHint(exit)).At(step.Pointer)
	}
	if rmErr != nil {
		return fmt.Errorf("remove %s after it ran: %w", script, rmErr)
	}
	if rmExit != 0 {
		return arm.Errorf(arm.CodeStepFailed, "%s could not be removed after it ran (rm exited with status %d)", script, rmExit).At(step.Pointer)
	}
	return nil
}

// place writes the step's script to path in the guest.
func (r Runner) place(ctx context.Context, step plan.Step, path string) error {
	if step.Artifact == nil {
		content := inlineShebang + strings.Join(step.Inline, "\n") + "\n"
		return guest.WriteFile(ctx, r.Session, []byte(content), path, 0o755)
	}
	f, err := r.Content.Open(step.Artifact.SHA256)
	if err != nil {
		return fmt.Errorf("open the frozen copy of %s: %w", step.FileName(), err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read the frozen copy of %s: %w", step.FileName(), err)
	}
	return guest.WriteFile(ctx, r.Session, content, path, 0o755)
}

// exitHint says what an exit status usually means.
func exitHint(exit int) string {
	switch {
	case exit == 100:
		return " (apt-get uses 100 for its own errors: look for E: lines above)"
	case exit == 126:
		return " (found but not executable: is /tmp mounted noexec?)"
	case exit == 127:
		return " (command not found, or the script's interpreter does not exist: CRLF line ends do that)"
	case exit == 137:
		return " (killed, usually for lack of memory: try a larger vmSize)"
	case exit > 128 && exit < 160:
		return fmt.Sprintf(" (killed by signal %d)", exit-128)
	}
	return ""
}
