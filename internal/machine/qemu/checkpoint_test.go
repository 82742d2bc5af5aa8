package qemu_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
)

// Whatever is refused, the machine goes on, no half of a state is left, and the
// error says whether the disk is sealed.
func TestCheckpointGoesOnAfterEachFailure(t *testing.T) {
	for command, sealed := range map[string]bool{
		"": true, "blockdev-add": false, "migrate-set-capabilities": false, "migrate-set-parameters": false, "getfd": false,
		"migrate": false, "blockdev-snapshot": false, "migrate-continue": true,
	} {
		t.Run("refuse "+command, func(t *testing.T) {
			m, spec, err := faulty(t, script{Refuse: map[string]string{command: "No space left on device"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.UnplugSeed(t.Context()); err != nil {
				t.Fatal(err)
			}
			overlay, state := filepath.Join(spec.Dir, "overlay"), filepath.Join(spec.Dir, "state")
			write(t, overlay, filepath.Base(spec.Disk))
			err = m.Checkpoint(t.Context(), overlay, state)
			if command == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			code(t, err, arm.CodeNoSpace, "No space")
			if errors.Is(err, machine.ErrMemoryNotSaved) != sealed {
				t.Errorf("sealed %v: %v", sealed, err)
			}
			if _, err := os.Stat(state); err == nil {
				t.Error("half a state is left")
			}
			said := commands(t, spec)
			if command != "blockdev-add" && said[len(said)-1] != "cont" && said[len(said)-1] != "blockdev-del" {
				t.Errorf("the machine stands still after %v", said)
			}
		})
	}
	m, spec, err := faulty(t, script{Die: "migrate-continue"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.UnplugSeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(spec.Dir, "overlay")
	write(t, overlay, filepath.Base(spec.Disk))
	code(t, m.Checkpoint(t.Context(), overlay, filepath.Join(spec.Dir, "state")), arm.CodeMachine, "struck by lightning")
}
