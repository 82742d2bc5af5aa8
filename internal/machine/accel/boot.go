package accel

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine/guardian"
)

// probeImage is the small guest; its source is beside it.
//
//go:generate sh probeguest/generate.sh
//go:embed probeguest/guest.bin
var probeImage []byte

// stages are what the small guest says when it has passed each of its tests.
var stages = []struct {
	letter byte
	test   string
}{
	{'P', "starting in protected mode"},
	{'L', "paging and long mode"},
	{'M', "model-specific registers and the paravirtual clock"},
	{'X', "an exception"},
	{'F', "a page fault"},
	{'T', "timer interrupts"},
	{'U', "user mode and system calls"},
	{'S', "the second CPU"},
}

// leftWell is QEMU's exit code for the small guest's farewell, 0x10 to the
// isa-debug-exit device.
const leftWell = 0x10<<1 | 1

// noRoot is what a Linux kernel says last when it has started whole and finds no
// root file system, for it is given none.
const noRoot = "VFS: Unable to mount root fs"

// maxTalk bounds what is kept of a guest's output, in bytes.
const maxTalk = 1 << 20

// guest is something to boot: it takes QEMU options and judges the outcome.
type guest struct {
	name     string
	deadline time.Duration // generous: only a guest that hangs uses it up
	options  func(config Config, image string) []string
	// verdict is "" when the guest passed, else what went wrong.
	verdict func(talk string, status guardian.Status, timedOut bool) string
}

var probeGuest = guest{
	name:     "probe",
	deadline: 20 * time.Second,
	options: func(_ Config, image string) []string {
		return []string{
			"-m", "64", "-kernel", image,
			"-device", "isa-debugcon,iobase=0xe9,chardev=talk",
			"-device", "isa-debug-exit,iobase=0x501,iosize=4",
		}
	},
	verdict: func(talk string, status guardian.Status, timedOut bool) string {
		for i, stage := range stages {
			if i >= len(talk) || talk[i] != stage.letter {
				return fmt.Sprintf("the guest did not get through %s (%s)", stage.test, outcome(status, timedOut))
			}
		}
		if status.Code != leftWell {
			return "the guest did not end by itself: " + outcome(status, timedOut)
		}
		return ""
	},
}

var kernelGuest = guest{
	name:     "kernel",
	deadline: 60 * time.Second,
	options: func(config Config, _ string) []string {
		return []string{
			"-m", "256", "-kernel", config.Kernel, "-append", "console=ttyS0 panic=-1",
			"-device", "isa-serial,chardev=talk",
		}
	},
	verdict: func(talk string, status guardian.Status, timedOut bool) string {
		if strings.Contains(talk, noRoot) {
			return ""
		}
		return fmt.Sprintf("the kernel did not start (%s); its last words: %q", outcome(status, timedOut), lastLine(talk))
	},
}

// outcome is how QEMU ended, in words.
func outcome(status guardian.Status, timedOut bool) string {
	if timedOut {
		return "it hung"
	}
	return status.String()
}

// boot runs guest under accelerator and judges it. The error is ctx's cause, or
// one of running anything at all.
func boot(ctx context.Context, config Config, accelerator, model string, g guest) (Attempt, error) {
	a := Attempt{Accelerator: accelerator, CPUModel: model, Guest: g.name}
	dir, err := os.MkdirTemp("", "goldsmith-probe-")
	if err != nil {
		return a, arm.Errorf(arm.CodeMachine, "no directory for the probe: %w", err)
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "guest.bin")
	if err := os.WriteFile(image, probeImage, 0o600); err != nil {
		return a, arm.Errorf(arm.CodeMachine, "the probe's guest: %w", err)
	}
	ears, mouth, err := os.Pipe()
	if err != nil {
		return a, arm.Errorf(arm.CodeMachine, "the probe's console: %w", err)
	}
	defer ears.Close()
	args := append([]string{
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accelerator, "-cpu", model, "-smp", "2",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-add-fd", "set=1,fd=3", "-chardev", "file,id=talk,path=/dev/fdset/1,append=on",
	}, g.options(config, image)...)

	began := time.Now()
	limit, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	// Not the start's limit: KVM may give up before the guardian has reported.
	alive, died := context.WithCancel(limit)
	defer died()
	complaints := &complaints{onDeath: died}
	p, err := guardian.Start(limit, guardian.Command{
		Name: "probe", Path: config.QEMU, Args: args, Dir: dir, Files: []*os.File{mouth}, Output: complaints,
	})
	mouth.Close()
	if err != nil {
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		return a, arm.Errorf(arm.CodeMachine, "%s does not start: %w", config.QEMU, err)
	}
	heard := make(chan string, 1)
	go func() {
		var talk bytes.Buffer
		_, _ = io.Copy(&talk, io.LimitReader(ears, maxTalk)) // a broken console is a silent guest
		_, _ = io.Copy(io.Discard, ears)
		heard <- talk.String()
	}()
	select {
	case <-p.Exited():
	case <-alive.Done():
	}
	killErr := p.Kill()
	if killErr != nil {
		ears.Close() // what does not die keeps its end open
	}
	talk := <-heard
	if killErr != nil {
		return a, arm.Errorf(arm.CodeMachine, "the probe's QEMU: %w", killErr)
	}
	if ctx.Err() != nil {
		return a, context.Cause(ctx)
	}
	a.Millis = time.Since(began).Milliseconds()
	a.Reason = g.verdict(talk, p.Status(), errors.Is(limit.Err(), context.DeadlineExceeded))
	a.Passed = a.Reason == ""
	if a.Passed {
		a.Reason = "passed"
	} else if line := complaints.line(); line != "" {
		a.Reason += "; QEMU says: " + line
	}
	return a, nil
}

// kvmDied is what QEMU says when KVM gives a CPU up. The CPU stops for ever, and
// QEMU goes on without it.
const kvmDied = "KVM internal error"

// complaints keeps the beginning of QEMU's standard error and calls onDeath when
// KVM has given up, so that the deadline need not pass.
type complaints struct {
	onDeath func()

	mu   sync.Mutex
	text []byte
}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p[:min(len(p), 16<<10-len(c.text))]...)
	if bytes.Contains(c.text, []byte(kvmDied)) {
		c.onDeath()
	}
	return len(p), nil
}

// line is the first complaint that is more than a warning.
func (c *complaints) line() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(string(c.text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "warning:") {
			return line
		}
	}
	return ""
}

// lastLine is the last line of text that says anything.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
