package machinetest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/machine/machinetest/talk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is a guest that answers the suite's requests.
type program struct {
	board *machinetest.Board

	mu     sync.Mutex
	cards  chan struct{} // closed and replaced when a card comes or goes
	card   *os.File
	mac    string
	memory memory
	dirty  []byte
}

// memory is what the program keeps across a save.
type memory struct {
	Boot string
	Disk map[string]string
}

func newProgram(b *machinetest.Board) machinetest.Guest {
	b.Print("booting\n")
	return &program{board: b, cards: make(chan struct{}), memory: memory{
		Boot: strconv.FormatInt(time.Now().UnixNano(), 36), Disk: make(map[string]string),
	}}
}

func (p *program) ServeHelper(ctx context.Context, port io.ReadWriteCloser) {
	// The port ends with the machine.
	_ = talk.Answer(port, func(request string, args []string) (string, error) { return p.do(ctx, request, args) })
}

func (p *program) do(ctx context.Context, request string, args []string) (string, error) {
	switch request {
	case talk.AwaitNIC:
		return p.await(ctx, true)
	case talk.NoNIC:
		return p.await(ctx, false)
	case talk.PowerOff:
		p.board.PowerOff()
		<-ctx.Done()
		return "", ctx.Err()
	case talk.Disks:
		return strconv.Itoa(p.board.Disks()), nil
	case talk.DiskSize, talk.AwaitSize: // a board tells its program the size it has now
		return strconv.FormatInt(p.board.DiskBytes(), 10), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch request {
	case talk.Boot:
		return p.memory.Boot, nil
	case talk.WriteAt:
		p.memory.Disk[args[0]] = args[1]
		p.dirty = fmt.Appendf(p.dirty, "%s %s\n", args[0], args[1])
		return "", nil
	case talk.ReadAt:
		return p.memory.Disk[args[0]], nil
	case talk.SendNIC:
		mac, err := net.ParseMAC(p.mac)
		if err != nil {
			return "", err
		}
		frame := append(bytes.Repeat([]byte{255}, 6), mac...)
		frame = append(binary.BigEndian.AppendUint16(frame, talk.FrameType), args[0]...)
		_, err = p.card.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		return "", err
	}
	return "", fmt.Errorf("unknown request %q", request)
}

// await waits until the card is there, or is not.
func (p *program) await(ctx context.Context, present bool) (string, error) {
	for {
		p.mu.Lock()
		mac, cards := p.mac, p.cards
		p.mu.Unlock()
		if (mac != "") == present {
			return mac, nil
		}
		select {
		case <-cards:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (p *program) AttachNIC(ctx context.Context, mac string, conn *os.File) {
	p.setCard(mac, conn)
	<-ctx.Done()
	p.setCard("", nil)
}

func (p *program) setCard(mac string, conn *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mac, p.card = mac, conn
	close(p.cards)
	p.cards = make(chan struct{})
}

func (p *program) PowerButton(context.Context) { p.board.PowerOff() }

func (p *program) WriteDisk(overlay string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := os.OpenFile(overlay, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(p.dirty)
	p.dirty = nil
	return errors.Join(err, f.Close())
}

func (p *program) SaveMemory() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return json.Marshal(p.memory)
}

func (p *program) LoadMemory(saved []byte) error { return json.Unmarshal(saved, &p.memory) }

// overlay writes the header of a qcow2 image over backing, "" for none.
func overlay(t *testing.T, path, backing string, size int64) {
	t.Helper()
	header := make([]byte, 104)
	copy(header, "QFI\xfb")
	binary.BigEndian.PutUint32(header[4:], 3)
	if backing != "" {
		binary.BigEndian.PutUint64(header[8:], 104)
		binary.BigEndian.PutUint32(header[16:], uint32(len(filepath.Base(backing))))
		header = append(header, filepath.Base(backing)...)
	}
	binary.BigEndian.PutUint64(header[24:], uint64(size))
	if err := os.WriteFile(path, header, 0o600); err != nil {
		t.Fatal(err)
	}
}

func spec(t *testing.T, dir string) machine.Spec {
	t.Helper()
	s := machine.Spec{
		Name: "test", Dir: dir, Disk: filepath.Join(dir, "disk.qcow2"), Seed: filepath.Join(dir, "seed.img"),
		Shape: machine.Shape{CPUs: 1, MemoryMiB: 16, Firmware: machine.BIOS},
	}
	overlay(t, s.Disk, "", 1<<30)
	if err := os.WriteFile(s.Seed, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	machinetest.Conformance(t, func(t *testing.T) machinetest.Harness {
		boards := make(map[string]*machinetest.Board)
		fake := machinetest.NewFake(func(b *machinetest.Board) machinetest.Guest {
			boards[b.Spec.Dir] = b
			return newProgram(b)
		})
		t.Cleanup(func() {
			if n := fake.Running(); n != 0 {
				t.Errorf("%d machines run on", n)
			}
		})
		return machinetest.Harness{
			Hypervisor: fake, Spec: spec, Overlay: overlay,
			Kill: func(*testing.T, machine.Machine) {
				for _, b := range boards {
					b.Crash(errors.New("killed"))
				}
			},
		}
	})
}

func TestFaults(t *testing.T) {
	call := func(op machinetest.Op, fake *machinetest.Fake, ctx context.Context) (machine.Machine, error) {
		s := spec(t, t.TempDir())
		if op == machinetest.Restore {
			m, err := fake.Restore(ctx, s, s.Disk)
			return m, err
		}
		m, err := fake.Start(ctx, s)
		if err != nil {
			return nil, err
		}
		switch op {
		case machinetest.PlugNIC:
			r, w, pipeErr := os.Pipe()
			if pipeErr != nil {
				t.Fatal(pipeErr)
			}
			defer r.Close()
			err = m.PlugNIC(ctx, machine.NIC{MAC: "52:54:00:00:00:01", Conn: w})
		case machinetest.UnplugNIC:
			err = m.UnplugNIC(ctx)
		case machinetest.UnplugSeed:
			err = m.UnplugSeed(ctx)
		case machinetest.Seal:
			err = m.Seal(ctx, s.Disk)
		case machinetest.Resize:
			err = m.Resize(ctx, 1<<31)
		case machinetest.Save:
			err = m.Save(ctx, s.Disk+".state")
		case machinetest.Checkpoint:
			err = m.Checkpoint(ctx, s.Disk, s.Disk+".state")
		case machinetest.PowerDown:
			err = m.PowerDown(ctx)
		}
		return m, err
	}
	full := arm.Errorf(arm.CodeNoSpace, "the disk is full")
	for _, op := range machinetest.Ops {
		t.Run(string(op), func(t *testing.T) {
			fake := machinetest.NewFake(nil)
			fake.FailOn(op, full)
			m, err := call(op, fake, t.Context())
			if !arm.IsCode(err, arm.CodeNoSpace) {
				t.Errorf("fail: %v", err)
			}
			if m != nil {
				select {
				case <-m.Exited():
					t.Error("a fault without death ended the machine")
				default:
				}
				m.Close()
			}
			fake.HangOn(op)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if m, err = call(op, fake, ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("hang: %v", err)
			}
			if m != nil {
				m.Close()
			}
			fake.DieOn(op, errors.New("lightning"))
			if m, err = call(op, fake, t.Context()); !arm.IsCode(err, arm.CodeMachine) {
				t.Errorf("die: %v", err)
			}
			if m != nil {
				if err := m.Wait(t.Context()); !arm.IsCode(err, arm.CodeMachine) {
					t.Errorf("wait: %v", err)
				}
				m.Close()
			}
			if fake.Running() != 0 {
				t.Error("a machine runs on")
			}
		})
	}
}

func TestDieAt(t *testing.T) {
	fake := machinetest.NewFake(nil)
	fake.DieAt(3, errors.New("lightning"))
	s := spec(t, t.TempDir())
	m, err := fake.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.UnplugSeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Resize(t.Context(), 2<<30); !arm.IsCode(err, arm.CodeMachine) {
		t.Errorf("got %v", err)
	}
	want := []machinetest.Op{machinetest.Start, machinetest.UnplugSeed, machinetest.Resize}
	if diff := cmp.Diff(want, fake.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestUpgradeRefusesOldStates(t *testing.T) {
	fake := machinetest.NewFake(nil)
	s := spec(t, t.TempDir())
	s.Seed, s.RAMFile = "", filepath.Join(s.Dir, "ram")
	m, err := fake.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	state := filepath.Join(s.Dir, "state")
	if err := m.Save(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	fake.Upgrade()
	if _, err := fake.Restore(t.Context(), s, state); !arm.IsCode(err, arm.CodeMachine) {
		t.Errorf("got %v", err)
	}
}
