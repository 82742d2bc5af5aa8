package provision_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/provision"
	"goldsmith/internal/provision/helpertest"
	"goldsmith/internal/provision/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect is a builder's helper with g at the other end.
func connect(t *testing.T, g *helpertest.Guest) *provision.Helper {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(t.Context(), theirs) }()
	h, err := provision.Dial(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestConversation(t *testing.T) {
	boot, off := make(chan struct{}), make(chan struct{})
	g := &helpertest.Guest{Boot: boot, Size: 8 << 30, Off: func() { close(off) }}
	h := connect(t, g)
	booted := make(chan error, 1)
	go func() {
		ready, err := h.Ready(t.Context())
		if err == nil && (ready.State != "running" || !ready.Waagent) {
			err = errors.New("not ready: " + ready.State)
		}
		booted <- err
	}()
	// A question that waits does not hold up others.
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(boot)
	if err := <-booted; err != nil {
		t.Fatal(err)
	}
	id, err := provision.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if err := h.Identify(t.Context(), id, provision.BuildUser, provision.Settings{HTTPProxy: "http://proxy:3128"}); err != nil {
		t.Fatal(err)
	}
	got := g.Identity()
	if len(got.Entropy) != 64 || bytes.Equal(got.Entropy, make([]byte, 64)) {
		t.Errorf("entropy %x", got.Entropy)
	}
	if at := time.Unix(0, got.UnixNanos); at.Before(before) || at.After(time.Now()) {
		t.Errorf("time %v", at)
	}
	if got.User != "build" || !strings.HasPrefix(got.AuthorizedKey, "ssh-ed25519 ") || got.Settings.HTTPProxy != "http://proxy:3128" {
		t.Errorf("identity %+v", got)
	}
	if address, err := h.Network(t.Context(), "52:54:00:00:00:01"); err != nil || address != "10.0.0.4/24" {
		t.Errorf("%q, %v", address, err)
	}
	if size, err := h.Grow(t.Context(), 8<<30); err != nil || size != 8<<30 {
		t.Errorf("%d, %v", size, err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := h.Trim(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := h.Generalise(t.Context(), provision.BuildUser); err != nil {
		t.Error(err)
	}
	<-off
	if n := len(g.Ops()); n != 8 {
		t.Errorf("requests %v", g.Ops())
	}
}

func TestIdentitiesDiffer(t *testing.T) {
	g := &helpertest.Guest{}
	h := connect(t, g)
	seen := map[string]bool{}
	for range 3 {
		id, err := provision.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Identify(t.Context(), id, provision.BuildUser, provision.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{string(g.Identity().Entropy), g.Identity().HostKey, g.Identity().AuthorizedKey} {
			if seen[s] {
				t.Error("two identities share a secret")
			}
			seen[s] = true
		}
	}
}

func TestGuestRefuses(t *testing.T) {
	h := connect(t, &helpertest.Guest{On: func(context.Context, protocol.Op) error { return errors.New("no space") }})
	_, err := h.Grow(t.Context(), 8<<30)
	if arm.CodeOf(err) != arm.CodeGuestNotReady || !strings.Contains(err.Error(), "cannot grow: no space") {
		t.Errorf("%v", err)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	h := connect(t, &helpertest.Guest{Boot: make(chan struct{})})
	cause := errors.New("timeout of the build")
	ctx, stop := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause)
	defer stop()
	if _, err := h.Ready(ctx); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Errorf("the conversation ended with the wait: %v", err)
	}
}

// script is a guest that sends what it is told, whatever it is asked.
func script(t *testing.T, lines ...string) (*provision.Helper, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := protocol.NewReader[protocol.Request](theirs)
		q, err := in.Read()
		if err != nil {
			return
		}
		nonce := strings.Split(string(q.Args), `"`)[3]
		for _, line := range lines {
			_, _ = io.WriteString(theirs, strings.ReplaceAll(line, "NONCE", nonce)+"\n")
		}
		for {
			if _, err := in.Read(); err != nil && !errors.Is(err, protocol.ErrLine) {
				break
			}
		}
		_ = theirs.Close()
	}()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	h, err := provision.Dial(ctx, ours)
	t.Cleanup(func() {
		if h != nil {
			_ = h.Close()
		}
		<-done
	})
	return h, err
}

func TestDialSkipsWhatIsStale(t *testing.T) {
	stale := []string{
		`lf of a line"}`, `{"id":99,"result":{}}`, strings.Repeat("z", 2*protocol.MaxLine), "",
		`{"id":1,"result":{"nonce":"NONCE","version":1}}`,
	}
	if _, err := script(t, stale...); err != nil {
		t.Errorf("%v", err)
	}
}

func TestDialRefuses(t *testing.T) {
	for text, line := range map[string]string{
		"someone else": `{"id":1,"result":{"nonce":"other","version":1}}`,
		"version 7":    `{"id":1,"result":{"nonce":"NONCE","version":7}}`,
		"no sense":     `{"id":1,"result":[]}`,
		"cannot hello": `{"id":1,"error":"who?"}`,
	} {
		if _, err := script(t, line); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestGuestGoes(t *testing.T) {
	ours, theirs := net.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	boot := make(chan struct{})
	go func() { ended <- (&helpertest.Guest{Boot: boot}).Serve(ctx, theirs) }()
	h, err := provision.Dial(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	answer := make(chan error, 1)
	go func() {
		_, err := h.Ready(t.Context())
		answer <- err
	}()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-answer; err == nil {
		t.Error("ready without a guest")
	}
	if err := h.Sync(t.Context()); arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("%v", err)
	}
}

func FuzzGuestAnswers(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":{"nonce":"x","version":1}}` + "\n" + `{"id":2}` + "\n"))
	f.Add([]byte("\x00\n{}\n[]\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		conn := &answering{Reader: bytes.NewReader(answer)}
		h, err := provision.Dial(t.Context(), conn)
		if err == nil {
			_ = h.Close()
			t.Fatal("a guest that cannot know the nonce was believed")
		}
	})
}

// answering is a stream that takes everything and says what it has to say.
type answering struct{ io.Reader }

func (answering) Write(p []byte) (int, error) { return len(p), nil }
func (answering) Close() error                { return nil }

func FuzzHelperRequests(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"hello","args":{"nonce":"x"}}` + "\n" + `{"id":2,"op":"identify","args":{"entropy":"AA=="}}` + "\n"))
	f.Add([]byte(`{"id":1,"op":"network","args":{"mac":"x","sshPort":-1}}` + "\n{}\n"))
	f.Fuzz(func(t *testing.T, requests []byte) {
		g := &helpertest.Guest{}
		if err := g.Serve(t.Context(), &asking{Reader: bytes.NewReader(requests)}); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
}

// asking is a stream whose answers nobody reads.
type asking struct{ io.Reader }

func (asking) Write(p []byte) (int, error) { return len(p), nil }

// An answer counts although the guest is gone right after it, as it is when it
// powers off.
func TestLastAnswer(t *testing.T) {
	for range 300 {
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		g := &helpertest.Guest{Off: func() { _ = theirs.Close() }}
		go func() { ended <- g.Serve(t.Context(), theirs) }()
		h, err := provision.Dial(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Generalise(t.Context(), provision.BuildUser); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.Close(), <-ended); err != nil {
			t.Fatal(err)
		}
	}
}
