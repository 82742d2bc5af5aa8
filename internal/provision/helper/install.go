package helper

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"goldsmith/internal/provision/residue"
)

// unit runs the helper from early boot on. It survives the change to another
// target, because generalisation stops everything else.
const unit = `[Unit]
Description=Goldsmith build helper
DefaultDependencies=no
IgnoreOnIsolate=yes
After=systemd-remount-fs.service

[Service]
ExecStart=/` + residue.HelperFile + `
Nice=-10
Restart=always
RestartSec=1
OOMScoreAdjust=-1000

[Install]
WantedBy=sysinit.target
`

// quiet are units that a build has no use for and that would get in its way: they
// hold the package manager's lock, or look for a cloud that is not there. They
// are only kept from starting now; the image's next boot starts them as ever.
var quiet = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service",
	"unattended-upgrades.service", "dnf-makecache.timer", "dnf-automatic.timer",
	"man-db.timer", "e2scrub_reap.service", "e2scrub_all.timer",
	"walinuxagent.service", "waagent.service",
	// The card is plugged later; without one these wait for two minutes.
	"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service",
}

// Install records what the guest looked like, installs the helper's unit and
// starts it. It is called from the seed, before the network is configured, with
// the helper already in its place.
func (l *Linux) Install(ctx context.Context) error {
	if _, err := residue.ReadRecord(l.root); errors.Is(err, fs.ErrNotExist) {
		resolv, err := residue.Save(l.root, "etc/resolv.conf")
		if err != nil {
			return err
		}
		if err := (residue.Record{ResolvConf: resolv}).Write(l.root); err != nil {
			return err
		}
	}
	if err := l.root.WriteFile(residue.UnitFile, []byte(unit), 0o644); err != nil {
		return err
	}
	if err := l.root.MkdirAll(path.Dir(residue.UnitLink), 0o755); err != nil {
		return err
	}
	if err := l.root.Symlink("/"+residue.UnitFile, residue.UnitLink); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := errors.Join(relabel(residue.HelperFile), relabel(residue.UnitFile)); err != nil {
		return err
	}
	if _, err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := run(ctx, "systemctl", "start", "--no-block", residue.UnitName)
	// Units that this guest does not have cannot be stopped; that is as good.
	_, _ = run(ctx, "systemctl", append([]string{"stop", "--no-block"}, quiet...)...)
	return err
}
