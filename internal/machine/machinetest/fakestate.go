package machinetest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
)

// state is the content of a saved state.
type state struct {
	Fingerprint string
	Memory      []byte
	Whole       bool   // of a checkpoint: nothing of it is in a memory file
	MAC         string // of the NIC that was plugged, "" for none
}

// Save writes the guest's memory to file and ends the machine.
func (m *fakeMachine) Save(ctx context.Context, file string) error {
	end, err := m.begin(ctx, Save)
	if err != nil {
		return err
	}
	defer end()
	switch {
	case m.spec.RAMFile == "" || m.restored:
		return m.refuse(Save, "its memory is not in a file of its own")
	case m.seed:
		return m.refuse(Save, "the seed disk is plugged")
	}
	if err := m.writeState(ctx, Save, file, state{MAC: m.mac()}); err != nil {
		return err
	}
	m.finish(nil, true)
	<-m.exited
	if m.err != nil {
		os.Remove(file)
	}
	return m.err
}

// Checkpoint freezes the disk and writes the guest's memory to file.
func (m *fakeMachine) Checkpoint(ctx context.Context, path, file string) error {
	end, err := m.begin(ctx, Checkpoint)
	if err != nil {
		return err
	}
	defer end()
	if m.seed {
		return m.refuse(Checkpoint, "the seed disk is plugged")
	}
	if err := m.writeState(ctx, Checkpoint, file, state{Whole: true, MAC: m.mac()}); err != nil {
		return err
	}
	if err := m.switchTo(Checkpoint, path); err != nil {
		os.Remove(file)
		return err
	}
	return nil
}

// mac is the address of the NIC that is plugged, "" for none.
func (m *fakeMachine) mac() string {
	if m.nic == nil {
		return ""
	}
	return m.nic.mac
}

// writeState completes s and writes it to file, which must not be there.
func (m *fakeMachine) writeState(ctx context.Context, op Op, file string, s state) (err error) {
	if s.Fingerprint, err = m.fake.Fingerprint(ctx, m.spec.Shape); err != nil {
		return err
	}
	if r, ok := m.guest.(Rememberer); ok {
		if s.Memory, err = r.SaveMemory(); err != nil {
			return m.refuse(op, "%w", err)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return m.refuse(op, "%w", err)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m.refuse(op, "%w", err)
	}
	_, err = out.Write(text)
	if err := errors.Join(err, out.Close()); err != nil {
		os.Remove(file)
		return m.refuse(op, "%w", err)
	}
	return nil
}
