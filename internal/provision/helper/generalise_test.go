package helper

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/provision/residue"
)

// TestBusy: what runs or may start something is stopped, whatever is on its way
// somewhere, and what others brought; not what does nothing.
func TestBusy(t *testing.T) {
	got := busy(`ssh.service loaded active running OpenBSD Secure Shell server
` + residue.UnitName + ` loaded active running helper
init.scope loaded active running System and Service Manager
session-3.scope loaded active running Session 3 of User build
user@1000.service loaded active running User Manager for UID 1000
user-runtime-dir@1000.service loaded active exited User Runtime Directory

user-0.slice
systemd-update-utmp.service loaded active exited Record System Boot/Shutdown in UTMP
systemd-networkd.service loaded active running Network Configuration
systemd-networkd.socket loaded active running Network Service Netlink Socket
systemd-initctl.socket loaded active listening initctl Compatibility Named Pipe
systemd-journald.service loaded active running Journal Service
systemd-journald-dev-log.socket loaded active running Journal Socket (/dev/log)
systemd-udevd-kernel.socket loaded active running udev Kernel Socket
systemd-tmpfiles-clean.timer loaded active waiting Daily Cleanup
systemd-ask-password-wall.path loaded active waiting Forward Password Requests
systemd-timesyncd.service loaded deactivating stop-sigterm Network Time Synchronization
cloud-final.service loaded active exited Execute cloud user/final scripts
kmod-static-nodes.service loaded active exited Create List of Static Device Nodes
app-flush.service loaded active exited Writes everything when it stops
app.path loaded active waiting Waits for files of the app
app.socket loaded active listening App Socket`)
	want := []string{
		"ssh.service", "session-3.scope", "user@1000.service", "systemd-networkd.service", "systemd-networkd.socket",
		"systemd-tmpfiles-clean.timer", "systemd-timesyncd.service", "app-flush.service", "app.path", "app.socket",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("units to stop (-want +got):\n%s", diff)
	}
}
