package cli

import (
	"context"
	"errors"
	"fmt"

	"goldsmith/internal/arm"
)

// Exit codes of the program.
const (
	ExitDone     = 0   // all that was asked for is done
	ExitFailed   = 1   // the template, an access check, the build or an output failed
	ExitUsage    = 2   // the command line is wrong, or leaves a placeholder unfilled
	ExitCanceled = 130 // cancelled: 128 + SIGINT, as shells report it
)

// ExitStatus is the error of a command that ran in a guest and ended with a
// code other than 0: the program exits with the same code and says nothing.
type ExitStatus struct {
	Code int // 1 to 255
}

// Error names the code.
func (e ExitStatus) Error() string { return fmt.Sprintf("the command exited with status %d", e.Code) }

// ExitCode is the exit code of the program that ends with err. The outermost
// coded error decides, so a build that failed while being cancelled is what its
// code says.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var status ExitStatus
	if errors.As(err, &status) && status.Code > 0 && status.Code < 256 {
		return status.Code
	}
	var coded *arm.Error
	if !errors.As(err, &coded) {
		if errors.Is(err, context.Canceled) {
			return ExitCanceled
		}
		return ExitFailed
	}
	switch coded.Code {
	case arm.CodeCanceled:
		return ExitCanceled
	case arm.CodeUsage, arm.CodePlaceholder:
		return ExitUsage
	}
	return ExitFailed
}
