package helper

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// memoryMark is in the environment of a helper that runs from memory.
const memoryMark = "GOLDSMITH_HELPER_IN_MEMORY=1"

// RunFromMemory executes the program anew from a copy in memory, so that its file
// can be removed from the image without leaving an orphan on the disk. It returns
// nil in that copy, and an error when the guest forbids it.
func RunFromMemory() error {
	for _, v := range os.Environ() {
		if v == memoryMark {
			return nil
		}
	}
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer program.Close()
	fd, err := unix.MemfdCreate("goldsmith-helper", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot make a file in memory: %w", err)
	}
	copied := os.NewFile(uintptr(fd), "memfd")
	defer copied.Close()
	if _, err := io.Copy(copied, program); err != nil {
		return fmt.Errorf("cannot copy the program to memory: %w", err)
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), os.Args, append(os.Environ(), memoryMark))
	return fmt.Errorf("cannot run from memory: %w", err)
}
