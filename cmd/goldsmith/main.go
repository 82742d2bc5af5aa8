// Command goldsmith makes golden virtual-machine images from Azure image
// templates, on machines you own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"goldsmith/internal/cli"
	"goldsmith/internal/machine/guardian"
)

// version is set by the build.
var version = "dev"

func main() {
	guardian.Main()
	// A reader that goes away is an error of that write, not the end of a build
	// that then could not undo what it made.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(cli.Execute(context.Background(), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: version,
	}, os.Args[1:]))
}
