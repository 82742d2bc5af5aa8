//go:build vm

package vm

import (
	"strings"
	"testing"

	"goldsmith/internal/event"
)

// secrets prints what no two machines may have in common, a line each: random
// numbers of the kernel and of a language's own generator, and the identity that
// sshd shows.
const secrets = `
head -c 4096 /dev/urandom | base64 -w0; echo
python3 -c 'import os, random; print(os.getrandom(64).hex(), random.SystemRandom().getrandbits(512), random.getrandbits(512))'
cat /proc/sys/kernel/random/uuid
ls /etc/ssh/ssh_host_*_key | xargs -n1 basename | xargs
cat /etc/ssh/ssh_host_ed25519_key.pub
sudo cat /etc/ssh/ssh_host_ed25519_key | sha256sum
cat ~/.ssh/authorized_keys
`

// TestTwoBuildsOfOneState restores one saved state twice at the same time. The
// two guests share no secret and both builds succeed.
func TestTwoBuildsOfOneState(t *testing.T) {
	h := shared(t)
	var builds [2]*process
	for i, name := range []string{"vm-one", "vm-two"} {
		builds[i] = h.build(t, h.template(t, templateSpec{Name: name, Customize: []step{shell("secrets", secrets)}}))
	}
	var lines [2][]string
	var began, ended [2]event.Event
	for _, p := range builds {
		p.ends(t, 0)
	}
	for i, p := range builds {
		p.await(t, deciding("restored the booted base"))
		began[i], ended[i] = p.await(t, ofKind(event.StepStarted)), p.await(t, ofKind(event.RunFinished))
		lines[i] = strings.Split(strings.TrimSpace(p.text(1)), "\n")
		h.checkUndone(t, p.run(t))
	}
	if began[0].Time.After(ended[1].Time) || began[1].Time.After(ended[0].Time) {
		t.Error("the builds did not run at the same time")
	}
	if len(lines[0]) != 7 || len(lines[1]) != 7 {
		t.Fatalf("the guests say\n%s\nand\n%s", strings.Join(lines[0], "\n"), strings.Join(lines[1], "\n"))
	}
	for i, line := range lines[0] {
		if strings.HasPrefix(line, "ssh_host_") {
			if line != "ssh_host_ed25519_key" {
				t.Errorf("host keys of the saved state are still there: %s", line)
			}
			continue
		}
		for _, word := range strings.Fields(line) {
			if len(word) > 24 && strings.Contains(lines[1][i], word) {
				t.Errorf("both guests say %s", word)
			}
		}
	}
}
