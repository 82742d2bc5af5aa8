// Package guest is the seam to the operating system inside a build VM: one
// connection on which commands run and files go in. guest/ssh is the real
// thing; guest/guesttest serves one in-process.
package guest

import (
	"context"
	"io"
)

// Session is one connection to a guest. Commands are separate sessions of it
// and share nothing.
type Session interface {
	// Run executes a command line with the user's shell and streams its output.
	// The exit status is returned with a nil error; the error is an arm.Error:
	// CodeGuestLost when the connection broke, or ctx's cause.
	Run(ctx context.Context, command string, stdout, stderr io.Writer) (exit int, err error)
	// Upload writes a file. If dest is an existing directory the file goes into
	// it under name. The parent must exist. mode is the permission bits.
	Upload(ctx context.Context, content io.Reader, name, dest string, mode uint32) error
	// Close ends the connection.
	Close() error
}
