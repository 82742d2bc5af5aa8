package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine/qmp"
)

// deathPatience is how long a machine whose monitor broke may take to die of
// what broke it.
const deathPatience = 5 * time.Second

// noSpace is what QEMU says when the host's disk is full.
const noSpace = "No space left on device"

// codeOf is CodeNoSpace where err says that the host's disk is full, else
// CodeMachine.
func codeOf(err error) arm.Code {
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), noSpace) {
		return arm.CodeNoSpace
	}
	return arm.CodeMachine
}

// failed says what went wrong with op: the machine's own end if that is what
// broke it, else err.
func (m *Machine) failed(op string, err error) error {
	var refusal *qmp.Error
	var coded *arm.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return err
	case errors.As(err, &refusal):
		return m.spec.Errorf(codeOf(err), "%s failed: %w", op, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("machine %s: %s: %w", m.spec.Name, op, err)
	}
	select {
	case <-m.client.Done():
	default:
		return fmt.Errorf("machine %s: %s: %w", m.spec.Name, op, err) // ctx's own cause
	}
	timer := time.NewTimer(deathPatience)
	defer timer.Stop()
	select {
	case <-m.exited:
		if m.err != nil {
			return fmt.Errorf("%s: %w", op, m.err)
		}
		return m.spec.Errorf(arm.CodeMachine, "%s failed: the machine powered off", op)
	case <-timer.C:
		return m.spec.Errorf(arm.CodeMachine, "%s failed: %w", op, err)
	}
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for any of QEMU's last words.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String is what was written last, without the warnings that QEMU gives for
// every CPU model that it translates.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []string
	for line := range strings.Lines(string(t.text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "warning: TCG doesn't support") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
