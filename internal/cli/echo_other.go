//go:build !linux

package cli

import "io"

// muteEcho does nothing here: what is typed appears in the view until it is
// drawn again.
func muteEcho(io.Writer) (restore func(), err error) { return func() {}, nil }
