//go:build vm

package network_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/networktest/standin"
	"goldsmith/internal/nsg"
	"goldsmith/internal/proxyvm"
	"goldsmith/internal/vnet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// declaredWindows gives a proxy VM a build VM that is declared Windows: a Linux
// machine that stands in, with a TLS listener on the port of WinRM. The security
// rules are those that the checklist asks for with Windows, and no more.
func declaredWindows(ctx context.Context, t *testing.T, h machine.Hypervisor, start func(context.Context, *network.Private) (machine.Machine, error)) {
	proxyPort, guestPort := vnet.Ports(true)
	if proxyPort != 60000 || guestPort != 5986 {
		t.Fatalf("the ports of Windows are %d and %d", proxyPort, guestPort)
	}
	policy := policyOf(t, strings.Join([]string{
		ruleText("balancer", 400, "Inbound", "Allow", "AzureLoadBalancer", "VirtualNetwork", "60000"),
		ruleText("winrm", 401, "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork", "5986"),
		ruleText("deny", 4096, "Inbound", "Deny", "*", "*", "*"),
	}, ","))
	cfg := proxied(network.Config{GuestPorts: []uint16{guestPort}}, policy)
	cfg.Proxy.Port = proxyPort
	made, err := network.NewPrivate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := made.(*network.Private)
	defer n.Close()
	p := &paths{}
	n.SetTap(p.tap)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	console := boot(ctx, t, h, n, standin.Config{
		MAC: network.BuildMAC, Address: netip.PrefixFrom(guestAddr, 24), Router: proxyAddr, Listen: guestPort, Key: key,
	})
	m, err := start(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = proxyvm.Order(ctx, m, proxyvm.Network{
		MAC: network.ProxyMAC, Address: netip.PrefixFrom(proxyAddr, 24), Router: vnetRouter,
		Listen: proxyPort, Target: netip.AddrPortFrom(guestAddr, guestPort), Probe: nsg.ProbeAddress,
	})
	if err != nil {
		t.Fatal(err)
	}
	for ready := false; !ready; ready = strings.Contains(console.Text(), standin.Ready) {
		if !console.Scan() {
			t.Fatal("the stand-in ended")
		}
		t.Log(console.Text())
	}
	c, err := n.DialGuest(ctx, guestPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	secured := tls.Client(c, &tls.Config{
		InsecureSkipVerify: true, // the key is compared instead
		MinVersion:         tls.VersionTLS12,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			certificate, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			if !key.PublicKey.Equal(certificate.PublicKey) {
				return errors.New("another machine answers")
			}
			return nil
		},
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	echoed(t, secured)
	for _, want := range []string{"link > 10.1.0.5:60000", "balancer > 10.1.0.6:60000", "proxy > 10.1.0.7:5986"} {
		if !slices.Contains(p.seen(), want) {
			t.Errorf("no %s in %v", want, p.seen())
		}
	}
	for _, path := range p.seen() {
		if strings.HasSuffix(path, ":22") || strings.HasSuffix(path, ":60001") {
			t.Errorf("a port of Linux was tried: %s", path)
		}
	}
}

// boot starts a stand-in as the build VM of n and returns its console's lines.
func boot(ctx context.Context, t *testing.T, h machine.Hypervisor, n *network.Private, cfg standin.Config) *bufio.Scanner {
	t.Helper()
	dir := t.TempDir()
	initrd := filepath.Join(dir, "standin.initrd")
	kernel, err := standin.Build(ctx, initrd)
	if err != nil {
		t.Fatal(err)
	}
	cmdline, err := cfg.Cmdline()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(write.Close(), read.Close()) })
	wire, err := n.AttachBuildVM(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Start(ctx, machine.Spec{
		Name: "standin", Shape: machine.Shape{CPUs: 1, MemoryMiB: 256, Firmware: machine.BIOS}, Dir: dir,
		Kernel: kernel, Initrd: initrd, Cmdline: cmdline, Console: write, NICAtBoot: &machine.NIC{MAC: cfg.MAC, Conn: wire},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		<-m.Exited()
		_ = write.Close() // the last line has come
	})
	t.Cleanup(func() {
		_ = m.Close()
		ended.Wait()
	})
	return bufio.NewScanner(read)
}

// paths are the ways that connections took.
type paths struct {
	mu  sync.Mutex
	all []string
}

// tap is the netswitch.Tap: it remembers first segments by the port where they
// entered the switch, and where they go.
func (p *paths) tap(port string, dir netswitch.Direction, b []byte) {
	if dir != netswitch.FromPort || len(b) < 54 || header.Ethernet(b).Type() != header.IPv4ProtocolNumber {
		return
	}
	ip := header.IPv4(b[14:])
	if !ip.IsValid(len(ip)) || ip.TransportProtocol() != header.TCPProtocolNumber || len(ip.Payload()) < header.TCPMinimumSize {
		return
	}
	tcp := header.TCP(ip.Payload())
	if tcp.Flags() != header.TCPFlagSyn {
		return
	}
	to := netip.AddrPortFrom(netip.AddrFrom4(ip.DestinationAddress().As4()), tcp.DestinationPort())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, port+" > "+to.String())
}

func (p *paths) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}
