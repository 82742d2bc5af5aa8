package cli

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
)

// muteEcho stops the terminal behind out from echoing what is typed, which
// would tear the view, until restore. Ctrl-C and Ctrl-Z keep their effect.
// Where out is no terminal, or one that this process does not hold in the
// foreground (changing it would stop the process), nothing happens.
func muteEcho(out io.Writer) (restore func(), err error) {
	f, ok := out.(*os.File)
	if !ok {
		return func() {}, nil
	}
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if errors.Is(err, unix.ENOTTY) || err == nil && !foreground(fd) {
		return func() {}, nil
	}
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "cannot read the settings of terminal %s: %w", f.Name(), err)
	}
	muted := *before
	muted.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &muted); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "cannot change the settings of terminal %s: %w", f.Name(), err)
	}
	return func() {
		if foreground(fd) {
			// Should this fail, the user's "stty sane" is all that is left.
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, before)
		}
	}, nil
}

// foreground reports whether this process may change the terminal of fd: it is
// in the terminal's foreground group, or the terminal controls another session.
func foreground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
