package accel

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"goldsmith/internal/arm"
)

// build tells one file of a program from what replaces it.
type build struct {
	path     string
	dev, ino uint64
	size     int64
	changed  time.Time
}

// versions are what programs said, by their build: QEMU takes a while to load its
// libraries, and every build of an image asks.
var versions sync.Map

// Version is what QEMU says about its version. It is asked again when the file of
// the program has changed. The error is CodeMissingTool.
func Version(ctx context.Context, qemu string) (string, error) {
	path, err := exec.LookPath(qemu)
	if err != nil {
		return "", arm.Errorf(arm.CodeMissingTool, "%w; install qemu-system-x86", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", arm.Errorf(arm.CodeMissingTool, "%w; install qemu-system-x86", err)
	}
	this := build{path: path, size: info.Size(), changed: info.ModTime()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		this.dev, this.ino = stat.Dev, stat.Ino
	}
	if known, ok := versions.Load(this); ok {
		return known.(string), nil
	}
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", arm.Errorf(arm.CodeMissingTool, "%s --version fails: %w; install qemu-system-x86", path, err)
	}
	versions.Store(this, string(text))
	return string(text), nil
}
