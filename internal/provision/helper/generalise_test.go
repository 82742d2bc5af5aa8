package helper

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/provision/residue"
)

func TestIdleUnit(t *testing.T) {
	got := idleUnit("ssh.service loaded active running OpenBSD Secure Shell server\n" +
		residue.UnitName + " loaded active running helper\n" +
		"user-0.slice\n\nsystemd-update-utmp.service loaded active exited Record System Boot/Shutdown in UTMP")
	want := "[Unit]\nDescription=Nothing runs\nDefaultDependencies=no\nAllowIsolate=yes\nRequires=-.mount\n" +
		"After=ssh.service\nAfter=user-0.slice\nAfter=systemd-update-utmp.service\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unit (-want +got):\n%s", diff)
	}
}
