//go:build vm

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/event"
)

// cachedSteps are the names of the steps that a build did not run.
func (p *process) cachedSteps() string {
	var names []string
	for _, e := range p.all(ofKind(event.StepCached)) {
		names = append(names, e.StepName)
	}
	return strings.Join(names, " ")
}

// TestStepCache changes the last step of a template: the steps before are not run
// again, and what they left in the guest's memory (a file in /tmp, a process, a
// mounted file system) is there. Nothing changed, nothing boots. The cached image
// holds what one built cold does. A failed step can be looked at.
func TestStepCache(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	file := filepath.Join(t.TempDir(), "message")
	// Its content is new, so that no earlier test's layers are found.
	content := fmt.Sprintf("made at %d", time.Now().UnixNano())
	if err := os.WriteFile(file, []byte(content+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	steps := func(last ...string) []step {
		return []step{
			{"type": "File", "name": "bring", "sourceUri": file, "destination": "/tmp/message"},
			shell("use", "cat /tmp/message | sudo tee /etc/message", "sudo mkdir /run/mine && sudo mount -t tmpfs mine /run/mine",
				"sudo systemd-run --unit=stays sleep infinity", "timeout 4 sha256sum /dev/zero || true"),
			shell("last", append(last, "grep -q made /tmp/message", "mountpoint /run/mine", "systemctl is-active stays.service")...),
		}
	}
	template := func(s []step) string { return h.template(t, templateSpec{Name: "vm-cache", Customize: s}) }

	first := h.rebuild(t, template(steps("echo one | sudo tee /etc/last")))
	first.ends(t, 0)
	if got := first.cachedSteps(); got != "" {
		t.Fatalf("cached in the first build: %s", got)
	}
	second := h.rebuild(t, template(steps("echo two | sudo tee /etc/last")))
	second.ends(t, 0)
	if got := second.cachedSteps(); got != "bring use" {
		t.Fatalf("cached: %q\n%s", got, second.plain(t))
	}
	second.await(t, deciding("restored the state after step 2"))
	second.await(t, saying("active"))
	h.checkUndone(t, second.run(t))
	if got := h.boot(t, "vm-cache", "cat /etc/last /etc/message"); got.stdout != "two\n"+content+"\n" {
		t.Errorf("the image holds %q", got.stdout)
	}

	third := h.rebuild(t, template(steps("echo two | sudo tee /etc/last")))
	third.ends(t, 0)
	if got := third.cachedSteps(); got != "bring use last" {
		t.Errorf("cached without a change: %q", got)
	}
	third.await(t, deciding("nothing changed"))

	failing := h.rebuild(t, template(steps("echo here > /tmp/evidence", "false")))
	failing.ends(t, 1)
	if got := h.run(t, "debug", failing.run(t), "-c", "cat /tmp/evidence; systemctl is-active stays.service"); got.stdout != "here\nactive\n" {
		t.Errorf("the failed step's guest says %q %q", got.stdout, got.stderr)
	}
	h.must(t, "debug", failing.run(t), "--drop")
}

// goesOnThere changes the last step of a template that was built on a network of the
// user's: the guest is restored as it was after the steps before, into a network of
// the new build's that looks the same to it.
func (h host) goesOnThere(t *testing.T, path string) {
	t.Helper()
	edit(t, path, "echo waiting; sleep 600", "ip -4 -brief address; timeout 20 bash -c 'exec 3<>/dev/tcp/db.corp/5432; head -n1 <&3'; echo gone on; sleep 600")
	p := h.rebuild(t, path, archiveEgress(t)...)
	p.await(t, deciding("restored the state after step"))
	p.await(t, saying("gone on"))
	if got := p.cachedSteps(); !strings.HasPrefix(got, "up") {
		t.Errorf("cached: %q\n%s", got, p.plain(t))
	}
	contains(t, p.text(3), "10.77.0.7/24", "database")
	p.interruptAndWait(t)
	h.checkUndone(t, p.run(t))
}

// TestVerifyCache builds from the cache and cold, and finds no difference.
func TestVerifyCache(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("a = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	steps := []step{
		{"type": "File", "name": "upload", "sourceUri": file, "destination": "/tmp/config"},
		shell("install", "sudo install -m 0600 /tmp/config /etc/config"),
		shell("user", "sudo useradd -m worker"),
		shell("service", "printf '[Unit]\\nDescription=mine\\n[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' | sudo tee /etc/systemd/system/mine.service", "sudo systemctl enable mine.service"),
		shell("package", "sudo apt-get remove -y --purge nano || true"),
	}
	tmpl := h.template(t, templateSpec{Name: "vm-verify", Customize: steps})
	h.rebuild(t, tmpl).ends(t, 0)
	got := h.must(t, "build", tmpl, "--progress", "plain", "--verify-cache")
	contains(t, got, "the cached and the cold image are equal")
}
