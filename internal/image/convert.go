package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"goldsmith/internal/arm"
)

// Limits of a qemu-img process. It parses files of unknown origin.
const (
	convertMemory  = 2 << 30          // bytes of address space
	convertCPU     = time.Hour        // processor time
	convertWait    = 10 * time.Second // to end after it was killed
	convertMessage = 4 << 10          // bytes of its complaints that are kept
)

// conversion is one run of qemu-img convert. The files are handed over open, so
// what was checked is what is read, and no name can mean anything else to it.
type conversion struct {
	in, out             *os.File
	inDriver, outDriver string
	options             string // of the output format, may be empty
	maxOutput           int64  // largest size of the output file in bytes
}

// convert runs qemu-img under limits and waits for it. It ends with this
// process, whatever ends that.
func convert(ctx context.Context, c conversion) error {
	limiter, err := findTool("prlimit", "util-linux")
	if err != nil {
		return err
	}
	tool, err := findTool("qemu-img", "qemu-utils")
	if err != nil {
		return err
	}
	args := []string{
		fmt.Sprintf("--as=%d", int64(convertMemory)), fmt.Sprintf("--cpu=%d", int64(convertCPU.Seconds())),
		fmt.Sprintf("--fsize=%d", c.maxOutput), "--core=0",
		tool, "convert", "-f", c.inDriver, "-O", c.outDriver,
	}
	if c.options != "" {
		args = append(args, "-o", c.options)
	}
	args = append(args, "/proc/self/fd/3", "/proc/self/fd/4")

	message := &limitedBuffer{max: convertMessage}
	cmd := exec.CommandContext(ctx, limiter, args...)
	cmd.ExtraFiles = []*os.File{c.in, c.out}
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stderr = message
	cmd.WaitDelay = convertWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// The signal comes when the thread that started the process ends: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return convertError(c, err, message.String())
	}
	return nil
}

// convertError says what a failed qemu-img said.
func convertError(c conversion, err error, message string) error {
	message = strings.TrimSpace(strings.ReplaceAll(message, "\n", "; "))
	switch {
	case strings.Contains(message, "No space left on device"):
		return arm.Errorf(arm.CodeNoSpace, "converting the disk image to %s: no space left: free some space, or use a data directory on a larger disk", c.outDriver)
	case c.inDriver == "qcow2" && c.outDriver != "raw": // its input was written here
		return arm.Errorf(arm.CodeInternal, "converting the disk image to %s with qemu-img: %w (%s)", c.outDriver, err, message)
	}
	return arm.Errorf(arm.CodeMalformedImage, "qemu-img cannot read the disk image as %s: %w (%s)", c.inDriver, err, message)
}

func findTool(name, debianPackage string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", arm.Errorf(arm.CodeMissingTool, "%s is needed to convert this disk image and is not installed: apt-get install %s (%w)", name, debianPackage, err)
	}
	return path, nil
}

// limitedBuffer keeps the first max bytes written to it.
type limitedBuffer struct {
	bytes.Buffer
	max int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
