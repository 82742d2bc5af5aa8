package balancer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/network/balancer"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/station"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestProbeAbandonsTheOneUnderWay starts with a backend that answers nothing.
func TestProbeAbandonsTheOneUnderWay(t *testing.T) {
	sw := netswitch.New()
	defer sw.Close()
	addr := netip.MustParseAddr("10.0.0.5")
	frontend, err := station.New(sw, station.Config{
		Name: "frontend", MAC: frame.MAC{2, 0, 0, 0, 0, 5}, Addr: addr, Subnet: netip.PrefixFrom(addr, 24),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer frontend.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began, ended, answers := make(chan struct{}), make(chan error), make(chan struct{})
	b, err := balancer.New(balancer.Config{
		Frontend: frontend, Port: 60001, Backend: netip.MustParseAddr("10.0.0.6"),
		Probe: func(pctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			select {
			case <-answers:
				near, far := net.Pipe()
				_ = far.Close()
				return near, nil
			case began <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			<-pctx.Done()
			select {
			case ended <- pctx.Err():
			case <-ctx.Done():
			}
			return nil, pctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	defer cancel()
	for abandoned := false; !abandoned; { // or it was given up just before
		<-began
		b.Probe()
		abandoned = errors.Is(<-ended, context.Canceled)
	}
	close(answers)
	if err := b.Await(t.Context()); err != nil || b.State() != balancer.Healthy {
		t.Errorf("the backend is %s, %v", b.State(), err)
	}
	b.Probe() // has no meaning any more
}
