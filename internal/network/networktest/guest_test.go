package networktest_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"goldsmith/internal/network"
	"goldsmith/internal/network/networktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGuestWithoutNetwork(t *testing.T) {
	near, far := net.Pipe()
	g, err := networktest.NewGuestConn(near, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Configure(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("configured by nobody: %v", err)
	}
	if _, err := g.Lookup(t.Context(), "example"); !errors.Is(err, networktest.ErrNotConfigured) {
		t.Errorf("lookup: %v", err)
	}
	_ = far.Close()
	<-g.Unplugged()
	if err := g.Configure(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("configured without a wire: %v", err)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewGuestRefusesABadAddress(t *testing.T) {
	near, far := net.Pipe()
	if _, err := networktest.NewGuestConn(near, "ff:ff:ff:ff:ff:ff"); err == nil {
		t.Error("broadcast is taken for a card's address")
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the refused wire is open")
	}
}

func TestGuestListenerCloses(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	g, err := networktest.NewGuestConn(near, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	l, err := g.Listen(22)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err == nil {
		t.Error("a closed listener accepts")
	}
}
