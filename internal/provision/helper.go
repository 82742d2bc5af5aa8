// Package provision makes a build VM ready for its build and takes the build out
// of it again: the first-boot seed, the conversation with the helper in the
// guest, and generalisation.
package provision

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/provision/protocol"
)

// Settings are the proxy, certificates and package mirrors of a build.
type Settings = protocol.Settings

// Ready tells how a guest's boot went.
type Ready = protocol.Ready

// Generalised tells what generalisation did.
type Generalised = protocol.Generalised

// Helper is the builder's end of the conversation with the program in the guest.
// Its methods may be called at once; each waits as long as its context lets it,
// and fails with CodeGuestLost when the stream ends. What the guest answers is
// the guest's word and no more.
type Helper struct {
	conn io.ReadWriteCloser
	done chan struct{} // closed when the reader has ended

	work  sync.WaitGroup // the reader and writers
	write sync.Mutex

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan protocol.Reply
	err     error // why the reader ended
}

// Dial greets the helper at the other end of conn, which may not run yet, and
// takes conn over. It returns when the helper answers, however long that takes:
// everything that came before, such as the end of an earlier conversation in a
// restored guest, is skipped.
func Dial(ctx context.Context, conn io.ReadWriteCloser) (*Helper, error) {
	h := &Helper{conn: conn, done: make(chan struct{}), waiting: map[uint64]chan protocol.Reply{}}
	h.work.Go(h.read)
	nonce := rand.Text()
	// An empty line first: the guest may hold the first half of a line from the
	// time before it was saved.
	if err := h.send(ctx, []byte("\n")); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	hello, err := call[protocol.Hello](ctx, h, protocol.OpHello, protocol.Hello{Nonce: nonce, Version: protocol.Version})
	switch {
	case err != nil:
	case hello.Nonce != nonce:
		err = arm.Errorf(arm.CodeGuestLost, "the helper in the guest answered to someone else")
	case hello.Version != protocol.Version:
		err = arm.Errorf(arm.CodeGuestNotReady, "the helper in the guest speaks version %d of the protocol, this program %d: its saved state is from another version of this program, boot the base anew", hello.Version, protocol.Version)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close ends the conversation and waits for its goroutines. The helper in the guest
// goes on.
func (h *Helper) Close() error {
	err := h.conn.Close()
	h.work.Wait()
	return err
}

// Ready waits until the guest has booted, cloud-init included.
func (h *Helper) Ready(ctx context.Context) (Ready, error) {
	return call[Ready](ctx, h, protocol.OpReady, nil)
}

// Identify gives the guest its own entropy, clock, host key and authorized key
// for user, and the settings of the build. It comes before the network card is
// plugged.
func (h *Helper) Identify(ctx context.Context, id *Identity, user string, s Settings) error {
	_, err := call[struct{}](ctx, h, protocol.OpIdentify, id.request(time.Now(), user, s))
	return err
}

// Network waits until the card with the hardware address mac has an address, which
// is returned with its prefix length, and sshd answers.
func (h *Helper) Network(ctx context.Context, mac string) (string, error) {
	a, err := call[protocol.Address](ctx, h, protocol.OpNetwork, protocol.Network{MAC: mac})
	return a.Address, err
}

// Grow grows the root file system to its disk, which was given diskBytes, and
// returns its size in bytes.
func (h *Helper) Grow(ctx context.Context, diskBytes int64) (int64, error) {
	g, err := call[protocol.Grown](ctx, h, protocol.OpGrow, protocol.Grow{DiskBytes: diskBytes})
	return g.Bytes, err
}

// Sync has the guest write everything to its disk.
func (h *Helper) Sync(ctx context.Context) error {
	_, err := call[struct{}](ctx, h, protocol.OpSync, nil)
	return err
}

// Rest waits until the guest has nothing to do any more, half a minute at most: what
// it is at when it is saved, it goes on with in every guest restored from that.
func (h *Helper) Rest(ctx context.Context) error {
	_, err := call[struct{}](ctx, h, protocol.OpRest, nil)
	return err
}

// Trim gives free space back to the disk and returns how many bytes.
func (h *Helper) Trim(ctx context.Context) (int64, error) {
	t, err := call[protocol.Trimmed](ctx, h, protocol.OpTrim, nil)
	return t.Bytes, err
}

// Release has the guest let go of the seed disk, so that it can be unplugged.
func (h *Helper) Release(ctx context.Context) error {
	_, err := call[struct{}](ctx, h, protocol.OpRelease, nil)
	return err
}

// Generalise has the guest stop its services, remove everything of the build and
// of its user, trim and power off. The machine's exit follows the answer.
func (h *Helper) Generalise(ctx context.Context, user string) (Generalised, error) {
	return call[Generalised](ctx, h, protocol.OpGeneralise, protocol.Generalise{User: user})
}

// read hands replies to those who wait for them, until the stream ends.
func (h *Helper) read() {
	defer close(h.done)
	in := protocol.NewReader[protocol.Reply](h.conn)
	for {
		reply, err := in.Read()
		if errors.Is(err, protocol.ErrLine) {
			continue
		}
		h.mu.Lock()
		if err != nil {
			h.err = err
			h.mu.Unlock()
			return
		}
		waiter := h.waiting[reply.ID]
		delete(h.waiting, reply.ID)
		h.mu.Unlock()
		if waiter != nil {
			waiter <- reply
		}
	}
}

// send writes one line. A guest that does not read must not hold the builder, so
// the stream is given up when ctx ends before the line is written.
func (h *Helper) send(ctx context.Context, line []byte) error {
	written := make(chan error, 1)
	h.work.Go(func() {
		h.write.Lock()
		defer h.write.Unlock()
		_, err := h.conn.Write(line)
		written <- err
	})
	select {
	case err := <-written:
		if err != nil {
			return arm.Errorf(arm.CodeGuestLost, "cannot talk to the helper in the guest: %w", err)
		}
		return nil
	case <-h.done:
		return nil // the answer may have come with the end: the caller looks
	case <-ctx.Done():
		_ = h.conn.Close() // ends the writer
		<-written
		return context.Cause(ctx)
	}
}

// lost is why the conversation ended.
func (h *Helper) lost() error {
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	return arm.Errorf(arm.CodeGuestLost, "the helper in the guest is gone: see the run's console: %w", h.err)
}

// call sends a request and waits for its reply.
func call[T any](ctx context.Context, h *Helper, op protocol.Op, args any) (T, error) {
	var result T
	var raw json.RawMessage
	if args != nil {
		text, err := json.Marshal(args)
		if err != nil {
			return result, arm.Errorf(arm.CodeInternal, "cannot encode a request to the guest: %w", err)
		}
		raw = text
	}
	waiter := make(chan protocol.Reply, 1)
	h.mu.Lock()
	h.last++
	id := h.last
	h.waiting[id] = waiter
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.waiting, id)
		h.mu.Unlock()
	}()
	line, err := protocol.Encode(protocol.Request{ID: id, Op: op, Args: raw})
	if err != nil {
		return result, arm.Errorf(arm.CodeTooLarge, "the request %q to the guest is too large: %w", op, err)
	}
	if err := h.send(ctx, line); err != nil {
		return result, err
	}
	var reply protocol.Reply
	select {
	case reply = <-waiter:
	case <-h.done:
		// The answer may have been the last thing that came.
		select {
		case reply = <-waiter:
		default:
			return result, h.lost()
		}
	case <-ctx.Done():
		return result, context.Cause(ctx)
	}
	if reply.Error != "" {
		return result, arm.Errorf(arm.CodeGuestNotReady, "the guest cannot %s: %s", op, reply.Error)
	}
	if len(reply.Result) > 0 {
		if err := json.Unmarshal(reply.Result, &result); err != nil {
			return result, arm.Errorf(arm.CodeGuestLost, "the guest's answer to %q makes no sense: %w", op, err)
		}
	}
	return result, nil
}
