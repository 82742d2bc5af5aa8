// Command genhelper compiles a Go program for a guest: static, stripped, the same
// bytes from the same sources, and packs it with gzip.
package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/renameio/v2"
)

func main() {
	out := flag.String("o", "", "file to write")
	flag.Parse()
	if *out == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: genhelper -o FILE PACKAGE")
		os.Exit(2)
	}
	if err := generate(*out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "genhelper:", err)
		os.Exit(1)
	}
}

func generate(out, pkg string) error {
	dir, err := os.MkdirTemp("", "genhelper-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	// The working tree's state is left out, or no two builds would be equal.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("cannot compile %s: %w", pkg, err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return renameio.WriteFile(out, packed.Bytes(), 0o644)
}
