// Command goldsmith-helper runs inside a build VM. The seed installs it, the
// builder talks to it over a virtio-serial port, and generalisation removes it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"goldsmith/internal/provision/helper"
)

func main() {
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
