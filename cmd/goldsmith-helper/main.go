// Command goldsmith-helper runs inside a build VM. The seed installs it, the
// builder talks to it over a virtio-serial port, and generalisation removes it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"goldsmith/internal/provision/helper"
)

// memoryLimit is how much memory the helper takes before it collects garbage, in bytes.
// A collection that falls into the first moments after a restore, where all code runs
// for the first time, would hold the build up.
const memoryLimit = 32 << 20

func main() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "goldsmith-helper:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	guest, err := helper.NewLinux("/")
	if err != nil {
		return err
	}
	defer guest.Close()
	switch {
	case len(args) == 1 && args[0] == "install":
		return guest.Install(ctx)
	case len(args) > 0:
		return errors.New("usage: goldsmith-helper [install]")
	}
	if err := helper.RunFromMemory(); err != nil {
		fmt.Fprintln(os.Stderr, "goldsmith-helper:", err)
	}
	port, err := helper.OpenPort(ctx)
	if err != nil {
		return err
	}
	defer port.Close()
	err = helper.Serve(ctx, port, guest)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
