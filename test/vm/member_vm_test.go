//go:build vm

package vm

import (
	"bufio"
	"context"
	"strings"
	"syscall"
	"testing"

	"goldsmith/internal/event"
)

// TestMember boots an image as a member of a network and builds there: the build's
// machine reaches the member by name and by address, at the ports that were named
// and that the security group lets in, and at no other, though all of them answer.
func TestMember(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	h.must(t, "network", "put", vnetFile(t, "Disabled"))
	const unit = `[Service]
ExecStart=/bin/bash -c "python3 -m http.server 9000 & exec python3 -m http.server 9001"
[Install]
WantedBy=multi-user.target
`
	h.build(t, h.template(t, templateSpec{Name: "vm-member", Customize: []step{
		shell("serve", "printf '%s' '"+unit+"' | sudo tee /etc/systemd/system/hello.service", "sudo systemctl enable hello.service"),
	}})).ends(t, 0)
	leave := h.member(t, "vm-member", "--vnet", "vm-vnet/v", "--at", "10.77.1.60", "--name", "web.corp", "--port", "22", "--port", "9000")

	inside := []reach{
		{name: "the member by name", at: "web.corp:22", speaks: "SSH", open: true},
		{name: "the member by address", at: "10.77.1.60:22", speaks: "SSH", open: true},
		{name: "a port that the group denies", at: "10.77.1.60:9000"},
		{name: "a port that was not named", at: "10.77.1.60:9001"},
	}
	template := h.template(t, templateSpec{Name: "vm-beside", Customize: []step{shell("reach", matrix(inside)), shell("wait", "echo waiting; sleep 600")}})
	edit(t, template, `"vmSize": "Standard_B1ms"`, `"vmSize": "Standard_B1ms", "vnetConfig": {"subnetId": "`+subnetID("v", "machines")+`", "containerInstanceSubnetId": "`+subnetID("v", "containers")+`"}`)
	edit(t, template, `"apiVersion": "2022-07-01"`, `"apiVersion": "2024-02-01"`)
	p := h.build(t, template)
	p.await(t, saying("waiting"))
	checkMatrix(t, "beside a member", p.text(1), inside)
	p.await(t, func(e event.Event) bool {
		return e.Kind == event.Warning && strings.Contains(e.Text, "may not reach the machine at 10.77.1.60:9000: denied by rule deny")
	})
	p.interruptAndWait(t)
	leave()
	if r := h.run(t, "network", "expose", "--vnet", "vm-vnet/v", "--at", "10.77.1.60:22", "--target", "127.0.0.1:9"); r.code != 0 {
		t.Errorf("the member's address is not free again: %s%s", r.stdout, r.stderr)
	}
}

// member boots an image as a member of a network, and returns when builds reach it.
// leave ends it.
func (h host) member(t *testing.T, image string, flags ...string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	cmd := h.command(ctx, append([]string{"image", "boot", image}, flags...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	joined, done := make(chan struct{}), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "reach the machine at") {
				close(joined)
			}
		}
		_ = cmd.Wait() // by a signal
	}()
	leave = func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		<-done
		cancel()
	}
	t.Cleanup(leave)
	select {
	case <-joined:
	case <-done:
		cancel()
		t.Fatalf("the member ended:\n%s", said.String())
	}
	return leave
}
