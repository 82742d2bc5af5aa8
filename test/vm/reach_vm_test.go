//go:build vm

package vm

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// reach is what a guest tries to connect to.
type reach struct {
	name string
	// at is HOST:PORT, the host not necessarily an address.
	at string
	// speaks is what the other end must say to count as reached; "" is nothing.
	speaks string
	open   bool
}

// matrix is a script that tries everything at once and prints a line each. What is
// to be refused is given little time, what is to be reached a lot.
func matrix(all []reach) string {
	var b strings.Builder
	b.WriteString("try() { # name host:port seconds words\n" +
		"if timeout \"$3\" bash -c 'exec 3<>\"/dev/tcp/${1%:*}/${1##*:}\" && { [ -z \"$2\" ] || head -n1 <&3 | grep -q \"$2\"; }' - \"$2\" \"$4\" 2>/dev/null\n" +
		"then echo \"reached $1\"; else echo \"refused $1\"; fi; }\n")
	for _, r := range all {
		seconds := 8
		if r.open {
			seconds = 120
		}
		fmt.Fprintf(&b, "try %q %q %d %q &\n", r.name, r.at, seconds, r.speaks)
	}
	b.WriteString("wait\n")
	return b.String()
}

// checkMatrix compares what a guest printed with what was to be.
func checkMatrix(t *testing.T, where, printed string, all []reach) {
	t.Helper()
	lines := strings.Split(printed, "\n")
	got := map[string]string{}
	for _, line := range lines {
		if verb, name, ok := strings.Cut(line, " "); ok && (verb == "reached" || verb == "refused") {
			got[name] = verb
		}
	}
	for _, r := range all {
		want := "refused"
		if r.open {
			want = "reached"
		}
		if got[r.name] != want {
			t.Errorf("%s: %s (%s) is %q, want %q", where, r.name, r.at, got[r.name], want)
		}
	}
	if t.Failed() {
		t.Logf("%s printed\n%s", where, printed)
	}
}

// hostTargets are services of this host as a guest could try to reach them: at the
// host's addresses, and at the guest's router as if that were the host. None is to
// be reached, and each fails the test if it is.
func hostTargets(t *testing.T, router string) (all []reach) {
	t.Helper()
	add := func(name, host string, l net.Listener) {
		all = append(all, reach{name: name, at: host + ":" + port(t, l)})
	}
	add("the host's loopback", "127.0.0.1", serve(t, "127.0.0.1"))
	add("the host by the router", router, serve(t, "0.0.0.0"))
	for _, address := range hostAddresses(t) {
		l := serve(t, address)
		add("the host's "+address, address, l)
		add("the host's "+address+" by the router", router, l)
	}
	for _, p := range []string{"22", "80"} {
		all = append(all, reach{name: "the router's port " + p, at: router + ":" + p})
	}
	return append(all,
		reach{name: "the identity endpoint", at: "169.254.169.254:80"},
		reach{name: "the platform's endpoint", at: "168.63.129.16:80"})
}

// archive is the host and port of the guest's first package archive; its own
// configuration names it.
const archive = `archive=$(sed -nE 's#^(URIs:|deb) *(\[[^]]*\] *)?(https?)://([^/ ]+).*#\3 \4#p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n1)
case $archive in *:*) archive=${archive#* };; https*) archive=${archive#* }:443;; *) archive=${archive#* }:80;; esac
`

// outside tries the internet: the archive of the guest's packages.
func outside(open bool) reach { return reach{name: "the internet", at: "$archive", open: open} }

// publish listens on the host's loopback for who asks in a network, and answers
// each connection when gate is closed; nil does not wait.
func publish(t *testing.T, words string, gate <-chan struct{}) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if gate != nil {
					select {
					case <-gate:
					case <-ended:
					}
				}
				_, _ = fmt.Fprintln(c, words) // who asked may be gone
			})
		}
	})
	t.Cleanup(func() {
		close(ended)
		_ = l.Close()
		all.Wait()
	})
	return l
}
