//go:build vm

package network_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
)

// A real machine's boot firmware gets its lease over QEMU's socket back end.
func TestQEMUGetsItsLease(t *testing.T) {
	n := newNetwork(t, network.Config{})
	acked := make(chan string, 16)
	n.SetTap(func(port string, dir netswitch.Direction, b []byte) {
		d, ok := frame.ParseDatagram(b)
		if !ok || port != "build" || dir != netswitch.ToPort || d.Target.Port() != dhcpv4.ClientPort {
			return
		}
		if m, err := dhcpv4.FromBytes(d.Payload); err == nil && m.MessageType() == dhcpv4.MessageTypeAck {
			select {
			case acked <- m.YourIPAddr.String():
			default:
			}
		}
	})
	wire, err := n.AttachBuildVM(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "128",
		"-nodefaults", "-display", "none", "-sandbox", "on", "-boot", "n",
		"-netdev", "socket,id=n0,fd=3", "-device", "virtio-net-pci,netdev=n0,mac="+network.BuildMAC)
	cmd.ExtraFiles = []*os.File{wire}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = wire.Close()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	select {
	case got := <-acked:
		if got != network.BuildAddress.String() {
			t.Errorf("leased %s", got)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("no lease; statistics %+v", n.Stats())
	}
}
