// Command init is the only program of a proxy VM: it loads the kernel's modules,
// waits for an order on the helper's port, sets the network card up as told,
// forwards packets and connections, and answers probes. There is nothing to log
// in to and nothing else to configure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"goldsmith/internal/machine/cloudkernel/userland"
	"goldsmith/internal/proxyvm/appliance"
	"goldsmith/internal/proxyvm/order"
)

func main() {
	err := run()
	fmt.Println("proxy:", err)
	userland.PowerOff()
}

func run() error {
	kernel, err := userland.Start()
	if err != nil {
		return err
	}
	port, err := kernel.OpenPort(order.Port)
	if err != nil {
		return fmt.Errorf("helper port: %w", err)
	}
	if err := order.Write(port, order.Report{}); err != nil {
		return err
	}
	fmt.Println("proxy: waiting for an order")
	lines := order.NewLines(port)
	for {
		line, err := lines.Next()
		if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		var o order.Order
		if json.Unmarshal(line, &o) != nil || o.Nonce == "" {
			continue // the rest of a line from before the machine was saved
		}
		l, err := obey(o, kernel)
		report := order.Report{Nonce: o.Nonce}
		if err != nil {
			report.Error = err.Error()
		}
		if werr := order.Write(port, report); werr != nil || err != nil {
			return errors.Join(err, werr)
		}
		return serve(l, o)
	}
}

// obey carries an order out, up to the listener.
func obey(o order.Order, kernel userland.Kernel) (net.Listener, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := stir(o.Entropy); err != nil {
		return nil, err
	}
	card, err := kernel.AwaitCard(o.MAC)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct{ file, value string }{
		{"ipv4/ip_forward", "1"}, {"ipv6/conf/all/disable_ipv6", "1"},
		// The build VM is in the same subnet as the router, and is not to be told so.
		{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/" + card + "/send_redirects", "0"},
	} {
		if err := os.WriteFile("/proc/sys/net/"+s.file, []byte(s.value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := userland.Configure(card, o.Address, o.Router); err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp4", &net.TCPAddr{Port: int(o.Listen)})
}

func serve(l net.Listener, o order.Order) error {
	var d net.Dialer
	return appliance.Forward(context.Background(), l, o.Probe, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp4", o.Target.String())
	})
}
