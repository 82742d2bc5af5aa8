package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
	"goldsmith/internal/guest/ssh"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/provision"
)

// sshPort is the only port through which the builder reaches a Linux guest.
const sshPort = 22

// vm is a running guest with the builder's ways into it. Parts that are not
// there yet are nil.
type vm struct {
	machine machine.Machine
	network network.Network
	proxy   *proxy // nil without one
	// matched draws the rules that decided on the network; nil for one that is not
	// drawn.
	matched func(last bool)
	// metadata is the endpoint of the machine's identities; nil without any.
	metadata *imds.Server
	helper   *provision.Helper
	session  guest.Session
	console  *os.File
	patch    *patch // the wire of a guest that was continued with its card
	waagent  bool   // the guest has the Azure agent
}

// dial greets the helper in the guest.
func (v *vm) dial(ctx context.Context) error {
	return v.watch(ctx, func(ctx context.Context) (err error) {
		v.helper, err = provision.Dial(ctx, v.machine.Helper())
		return err
	})
}

// close ends everything, innermost first. It is safe on a half-made vm.
func (v *vm) close() error {
	var errs []error
	if v.session != nil {
		// A guest that is gone cannot say goodbye; what matters is the machine.
		_ = v.session.Close()
		v.session = nil
	}
	if v.helper != nil {
		_ = v.helper.Close()
		v.helper = nil
	}
	if v.machine != nil {
		errs = append(errs, v.machine.Close())
		v.machine = nil
	}
	if v.patch != nil {
		errs = append(errs, v.patch.close())
		v.patch = nil
	}
	if v.proxy != nil {
		v.proxy.close()
		v.proxy = nil
	}
	if v.network != nil {
		errs = append(errs, v.network.Close())
		v.network = nil
		if v.matched != nil {
			v.matched(true)
			v.matched = nil
		}
	}
	errs = append(errs, v.closeMetadata())
	if v.console != nil {
		errs = append(errs, v.console.Close())
		v.console = nil
	}
	return errors.Join(errs...)
}

// watch runs f with a context that ends when the machine goes away, so that
// nothing waits for a guest that is gone.
func (v *vm) watch(ctx context.Context, f func(ctx context.Context) error) error {
	wctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	stopped := make(chan struct{})
	proxyGone := v.proxyFailed()
	go func() {
		defer close(stopped)
		select {
		case <-proxyGone:
			cancel(v.proxy.cause())
		case <-v.machine.Exited():
			cause := v.machine.Wait(wctx)
			if cause == nil {
				cause = arm.Errorf(arm.CodeMachine, "the guest powered off")
			}
			cancel(cause)
		case <-done:
		}
	}()
	err := f(wctx)
	close(done)
	<-stopped
	defer cancel(nil)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if arm.IsCode(err, arm.CodeGuestLost) {
		err = v.blame(ctx, err)
	}
	if cause := context.Cause(wctx); cause != nil {
		return cause
	}
	return err
}

// lostGrace is how long a broken connection waits for the machine's own end,
// which explains it better.
const lostGrace = 20 * time.Second

// blame tells a connection that broke because the guest went down from one that
// broke by itself.
func (v *vm) blame(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, lostGrace)
	defer cancel()
	select {
	case <-v.machine.Exited():
		if werr := v.machine.Wait(ctx); werr != nil {
			return werr
		}
		return arm.Errorf(arm.CodeMachine, "the guest powered off")
	case <-v.proxyFailed():
		return v.proxy.cause()
	case <-ctx.Done():
		return err
	}
}

// proxyFailed is closed when the guest's proxy VM is gone; nil without one.
func (v *vm) proxyFailed() <-chan struct{} {
	if v.proxy == nil {
		return nil
	}
	return v.proxy.failed
}

// identify gives the guest the run's own keys, entropy and clock.
func (v *vm) identify(ctx context.Context, id *provision.Identity, settings provision.Settings) error {
	return v.watch(ctx, func(ctx context.Context) error {
		return v.helper.Identify(ctx, id, provision.BuildUser, settings)
	})
}

// An emulated guest on a busy host takes seconds to answer.
const (
	aliveInterval = 5 * time.Second
	aliveTimeout  = 30 * time.Second
)

// connect waits for the guest's network and opens the session.
func (v *vm) connect(ctx context.Context, id *provision.Identity) error {
	return v.signIn(ctx, id, v.reach)
}

// reachTime is how long a restored guest may take to answer at the address that it was
// saved with; 20 ms do without hardware acceleration.
const reachTime = 500 * time.Millisecond

// reconnect opens the session of a guest that had its address when it was saved, and
// is asked for it only where nothing answers there.
func (v *vm) reconnect(ctx context.Context, id *provision.Identity) error {
	return v.signIn(ctx, id, func(ctx context.Context) (net.Conn, error) {
		first, stop := context.WithTimeout(ctx, reachTime)
		defer stop()
		conn, err := v.network.DialGuest(first, sshPort)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		return v.reach(ctx)
	})
}

// reach waits until the guest has an address and sshd listens, and connects to it.
func (v *vm) reach(ctx context.Context) (net.Conn, error) {
	if _, err := v.helper.Network(ctx, network.BuildMAC); err != nil {
		return nil, fmt.Errorf("wait for the guest's network: %w", err)
	}
	return v.network.DialGuest(ctx, sshPort)
}

// signIn opens the session over the connection that dial makes.
func (v *vm) signIn(ctx context.Context, id *provision.Identity, dial func(context.Context) (net.Conn, error)) error {
	return v.watch(ctx, func(ctx context.Context) error {
		conn, err := dial(ctx)
		if err != nil {
			return fmt.Errorf("reach the guest's sshd: %w", err)
		}
		session, err := ssh.Connect(ctx, conn, ssh.Config{
			User:     provision.BuildUser,
			Key:      id.UserKey,
			HostKey:  id.HostKey,
			Interval: aliveInterval,
			Timeout:  aliveTimeout,
		})
		if err != nil {
			return fmt.Errorf("open the guest's session: %w", err)
		}
		v.session = session
		return nil
	})
}

// plug attaches the machine to its network.
func (v *vm) plug(ctx context.Context) error {
	wire, err := v.network.AttachBuildVM(ctx)
	if err != nil {
		return err
	}
	return v.machine.PlugNIC(ctx, machine.NIC{MAC: network.BuildMAC, Conn: wire})
}
