//go:build vm

package provision

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const testMAC = "52:54:00:67:6d:04"

func seedFile(t *testing.T) string {
	t.Helper()
	helper, err := HelperBinary()
	if err != nil {
		t.Fatal(err)
	}
	image, err := Seed(SeedConfig{Helper: helper})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBuildLifeOfAGuest(t *testing.T) {
	base := baseDisk(t)
	for _, firmware := range []string{"uefi", "bios"} {
		t.Run(firmware, func(t *testing.T) {
			start := time.Now()
			disk := overlayOn(t, "raw", base)
			v := boot(t, firmware, disk, seedFile(t), testMAC)
			h, err := Dial(within(t, 5*time.Minute), v.helper)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			t.Logf("helper answers after %v", time.Since(start))
			ready, err := h.Ready(within(t, 5*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("ready after %v: %+v", time.Since(start), ready)
			if len(ready.Errors) > 0 || !ready.Waagent {
				t.Errorf("ready = %+v", ready)
			}
			id, err := NewIdentity()
			if err != nil {
				t.Fatal(err)
			}
			lap := time.Now()
			if err := h.Identify(within(t, time.Minute), id, BuildUser, Settings{}); err != nil {
				t.Fatal(err)
			}
			t.Logf("identify took %v", time.Since(lap))
			lap = time.Now()
			address, err := h.Network(within(t, time.Minute), testMAC)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("network %s took %v", address, time.Since(lap))
			lap = time.Now()
			client, err := ssh.Dial("tcp", v.ssh, &ssh.ClientConfig{
				User: BuildUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(id.UserKey)},
				HostKeyCallback: ssh.FixedHostKey(id.HostKey), Timeout: 30 * time.Second,
				HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			t.Logf("ssh took %v", time.Since(lap))
			session, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := session.CombinedOutput("sudo id -u; systemd-analyze; systemd-analyze blame | head -25; systemctl --failed --no-legend; systemctl list-jobs; hostname; ls -l /etc/resolv.conf; lsmod | wc -l; cat /etc/apt/sources.list; df -h / /boot/efi; sudo sh -c 'echo hi > /var/tmp/x; journalctl -b -u goldsmith-helper --no-pager'")
			t.Logf("%s %v", out, err)
			lap = time.Now()
			done, err := h.Generalise(within(t, 2*time.Minute), BuildUser)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("generalise took %v: %+v", time.Since(lap), done)
			if err := v.waitOff(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			t.Logf("off after %v", time.Since(lap))
		})
	}
}
