//go:build vm

package vm

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/event"
)

// TestGuestNetwork looks at the network from inside a guest: the archives of its
// own packages are reached by name, the host, its services and the machine of
// another build are not; and nothing of this host listens for the guest.
func TestGuestNetwork(t *testing.T) {
	h := shared(t)
	other := h.build(t, h.template(t, templateSpec{Name: "vm-other", Customize: []step{
		shell("serve", "python3 -m http.server 9000 >/dev/null 2>&1 &\nuntil bash -c 'exec 3<>/dev/tcp/10.0.0.4/9000' 2>/dev/null; do sleep .2; done; echo serving; sleep 600"),
	}}))
	other.await(t, saying("serving"))

	// Every build's machine has the same address: at this one's own is not the other.
	targets := append(hostTargets(t, "10.0.0.1"), outside(true),
		reach{name: "the other build's machine", at: "10.0.0.4:9000"}, reach{name: "a neighbour", at: "10.0.0.5:9000"})
	resolve := `name=$(sed -nE 's#^(URIs:|deb) *(\[[^]]*\] *)?https?://([^/ ]+).*#\3#p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n1)
getent ahostsv4 "${name%%:*}" >/dev/null && echo "resolved the archive"`
	p := h.build(t, h.template(t, templateSpec{Name: "vm-network", Customize: []step{
		shell("probe", archive+matrix(targets)),
		shell("resolve", resolve),
		shell("install", "sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive apt-get install -qy jq", `echo '{"a":"installed"}' | jq -r .a`),
		shell("wait", "echo waiting; sleep 600"),
	}}), archiveEgress(t)...)
	p.await(t, func(e event.Event) bool { return e.Kind == event.StepFinished && e.Step == 1 })
	checkMatrix(t, "in a network of its own", p.text(1), targets)
	p.await(t, saying("waiting"))
	contains(t, p.text(2), "resolved the archive")
	contains(t, p.text(3), "installed")
	for _, b := range []*process{other, p} {
		id := b.run(t)
		for _, pid := range append(machines(t, id), b.cmd.Process.Pid) {
			for _, socket := range listening(t, pid) {
				t.Errorf("process %d of the build listens: %s", pid, socket)
			}
		}
	}
	p.interruptAndWait(t)
	other.interruptAndWait(t)
}

// serve accepts connections on a free port of an address of this host until the
// test ends.
func serve(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Errorf("%s was reached from %s", l.Addr(), conn.RemoteAddr())
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l
}

// port is the port of a listener.
func port(t *testing.T, l net.Listener) string {
	t.Helper()
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// hostAddresses are this host's IPv4 addresses but the loopback.
func hostAddresses(t *testing.T) (addresses []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			addresses = append(addresses, n.IP.String())
		}
	}
	return addresses
}

// archiveEgress opens the way to package archives with private addresses, as
// networks with a mirror of their own have them.
func archiveEgress(t *testing.T) (flags []string) {
	t.Helper()
	out := tool(t, "sh", "-c", `sed -nE 's#^(URIs:|deb) *(\[[^]]*\] *)?https?://([^/: ]+).*#\3#p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true`)
	for _, name := range strings.Fields(out) {
		addresses, err := net.DefaultResolver.LookupIP(t.Context(), "ip4", name)
		if err != nil {
			continue // not one that the guest uses, then
		}
		for _, a := range addresses {
			if a.IsPrivate() {
				flags = append(flags, "--allow-egress", a.String()+"/32")
			}
		}
	}
	return flags
}

// listening are the listening sockets that a process holds.
func listening(t *testing.T, pid int) (sockets []string) {
	t.Helper()
	held := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("the files of process %d cannot be seen: %v", pid, err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil {
			held[strings.TrimSuffix(strings.TrimPrefix(name, "socket:["), "]")] = true
		}
	}
	for _, family := range []string{"tcp", "tcp6"} {
		table := readAll(t, fmt.Sprintf("/proc/%d/net/%s", pid, family))
		for _, line := range strings.Split(table, "\n")[1:] {
			// proc(5): the second field is the local address, the fourth the state, 0A
			// for listening, the tenth the socket's number.
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && held[f[9]] {
				sockets = append(sockets, family+" "+f[1])
			}
		}
	}
	return sockets
}
