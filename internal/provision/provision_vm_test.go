//go:build vm

package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	// Whole builds start machines with either firmware; here the second one is for
	// long runs (make soak).
	firmwares := []string{"bios"}
	if os.Getenv("GOLDSMITH_SOAK") != "" {
		firmwares = append(firmwares, "uefi")
	}
	for _, firmware := range firmwares {
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
			for _, command := range buildTraces {
				session, err := client.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				out, err := session.CombinedOutput(command)
				if err != nil {
					t.Fatalf("%s: %v: %s", command, err, out)
				}
			}
			lap = time.Now()
			script, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if out, err := script.CombinedOutput("sudo -n sh " + DeprovisionPath); err != nil {
				t.Fatalf("deprovision: %v: %s", err, out)
			}
			t.Logf("waagent took %v", time.Since(lap))
			lap = time.Now()
			done, err := h.Generalise(within(t, 2*time.Minute), BuildUser)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("generalise took %v: %+v", time.Since(lap), done)
			if len(done.Warnings) > 0 {
				t.Errorf("warnings: %q", done.Warnings)
			}
			if err := v.waitOff(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			t.Logf("off after %v", time.Since(lap))
			checkImage(t, disk)
		})
	}
}

// buildTraces leave in a guest what builds leave.
var buildTraces = []string{
	"cat > " + DeprovisionPath + " <<'END'\n" + DefaultDeprovision + "END\n",
	"echo hello | sudo tee /etc/customized >/dev/null",
	"sudo sh -c 'echo x > /var/tmp/left; echo y > /tmp/left; echo z > /root/.bash_history'; echo w > ~/.bash_history",
	"sudo apt-get --version >/dev/null; sudo sh -c 'date > /var/log/apt/history.log'",
	"logger from the build",
}

// checkImage looks into the disk of a generalised guest without booting it.
func checkImage(t *testing.T, disk string) {
	t.Helper()
	dir := t.TempDir()
	raw, part := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "root.ext4")
	tool(t, "qemu-img", "convert", "-O", "raw", disk, raw)
	// The root partition as a file of its own, holes kept.
	tool(t, "qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=1M", "skip=128", "if="+raw, "of="+part)
	if err := os.Remove(raw); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "e2fsck", "-fn", part); strings.Contains(out, "recover") {
		t.Errorf("the root file system was not complete: %s", out)
	}
	root := filepath.Join(dir, "root")
	for _, name := range []string{"etc", "home", "root", "tmp", "usr/local", "var/lib/cloud", "var/lib/dbus", "var/lib/systemd", "var/lib/waagent", "var/lib/goldsmith-build", "var/log", "var/tmp"} {
		parent := filepath.Join(root, filepath.Dir(name))
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		tool(t, "debugfs", "-R", "rdump /"+name+" "+parent, part)
	}
	left, err := Residue(os.DirFS(root), BuildUser)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("the build left %q", left)
	}
	if text, err := os.ReadFile(filepath.Join(root, "etc/customized")); err != nil || string(text) != "hello\n" {
		t.Errorf("the customization is %q, %v", text, err)
	}
	if link, err := os.Readlink(filepath.Join(root, "etc/resolv.conf")); err != nil || link != "../run/systemd/resolve/stub-resolv.conf" {
		t.Errorf("resolv.conf leads to %q, %v", link, err)
	}
	if id, err := os.ReadFile(filepath.Join(root, "etc/machine-id")); err != nil || len(id) > 0 {
		t.Errorf("machine-id is %q, %v", id, err)
	}
}

// tool runs a program of the host and returns its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}
