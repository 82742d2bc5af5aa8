package qemu

import (
	"fmt"
	"io"
	"os"
)

// maxConsole bounds what a guest can put on the host's disk through its serial
// console, in bytes.
const maxConsole = 64 << 20

// copyConsole copies a guest's serial console from r into file, nil for nowhere,
// until QEMU has closed its end. The channel is closed then. A full disk or an
// excessive guest loses console output, nothing else.
func copyConsole(r *os.File, file *os.File) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		if file != nil {
			n, err := io.Copy(file, io.LimitReader(r, maxConsole))
			if err == nil && n == maxConsole {
				fmt.Fprintf(file, "\n[the console is cut after %d MiB]\n", maxConsole>>20)
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	return done
}
