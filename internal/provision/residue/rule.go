// Package residue knows what a build leaves in a guest, and takes it out of a
// root file system. It follows no symbolic link out of that file system, starts
// no program and reads no clock, so that it can be tried on a directory.
package residue

import "goldsmith/internal/provision/protocol"

// action is what to do with a path.
type action int

const (
	remove   action = iota // the path and everything below it
	contents               // everything below the path
	empty                  // the content of the file, which stays
)

// rule is one kind of residue. Patterns are those of io/fs.Glob, below the root.
type rule struct {
	pattern string
	action  action
}

// rules are the residue that any build leaves, whoever its user is.
var rules = []rule{
	// What the builder installed.
	{HelperFile, remove},
	{UnitFile, remove},
	{UnitLink, remove},
	// What cloud-init made of the seed.
	{"etc/sudoers.d/90-cloud-init-users", remove},
	{"etc/netplan/50-cloud-init.yaml", remove},
	{"etc/network/interfaces.d/50-cloud-init*", remove},
	{"etc/NetworkManager/system-connections/cloud-init-*", remove},
	{"etc/NetworkManager/conf.d/30-cloud-init-*", remove},
	{"etc/systemd/network/10-cloud-init-*", remove},
	{"etc/systemd/network/50-cloud-init*", remove},
	{"etc/udev/rules.d/70-persistent-net.rules", remove},
	{"etc/udev/rules.d/75-persistent-net-generator.rules", remove},
	{"etc/udev/rules.d/85-persistent-net-cloud-init.rules", remove},
	{"etc/ssh/sshd_config.d/50-cloud-init.conf", remove},
	{"var/lib/cloud/instance", remove},
	{"var/lib/cloud/instances", remove},
	{"var/lib/cloud/data", remove},
	{"var/lib/cloud/sem", remove},
	{"var/lib/cloud/handlers", contents},
	{"var/lib/cloud/scripts/per-instance", contents},
	{"var/log/cloud-init*", remove},
	// Secrets and identities of one machine.
	{"etc/ssh/ssh_host_*", remove},
	{"etc/machine-id", empty},
	{"var/lib/systemd/random-seed", remove},
	{"var/lib/systemd/credential.secret", remove},
	{"boot/efi/loader/random-seed", remove},
	{"var/lib/NetworkManager/secret_key", remove},
	{"var/lib/waagent", contents},
	// Leases.
	{"var/lib/dhcp/*.leases*", remove},
	{"var/lib/dhclient/*.lease*", remove},
	{"var/lib/NetworkManager/*.lease", remove},
	{"var/lib/NetworkManager/timestamps", remove},
	// What people and programs typed or left lying about.
	{"root/.*_history", remove},
	{"root/.lesshst", remove},
	{"root/.viminfo", remove},
	{"home/*/.*_history", remove},
	{"home/*/.lesshst", remove},
	{"home/*/.viminfo", remove},
	{"tmp", contents},
	{"var/tmp", contents},
	{"var/crash", contents},
	{"var/lib/systemd/coredump", contents},
	// Logs: rotated ones go, those that their writer expects to find are emptied.
	{"var/log/journal", contents},
	{"var/log/apt", contents},
	{"var/log/azure", contents},
	{"var/log/waagent.log*", remove},
	{"var/log/unattended-upgrades", contents},
	{"var/log/*.gz", remove},
	{"var/log/*.[0-9]", remove},
	{"var/log/*.old", remove},
	{"var/log/*-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]", remove},
	{"var/log/audit/*", empty},
	{"var/log/btmp", empty},
	{"var/log/wtmp", empty},
	{"var/log/lastlog", empty},
	{"var/log/faillog", empty},
	{"var/log/tallylog", empty},
	{"var/lib/wtmpdb/wtmp.db", remove},
	{"var/lib/lastlog/lastlog2.db", remove},
	{"var/log/dpkg.log", empty},
	{"var/log/alternatives.log", empty},
	{"var/log/auth.log", empty},
	{"var/log/boot.log", empty},
	{"var/log/cron", empty},
	{"var/log/cron.log", empty},
	{"var/log/daemon.log", empty},
	{"var/log/debug", empty},
	{"var/log/dmesg*", remove},
	{"var/log/dnf*.log", empty},
	{"var/log/hawkey.log", empty},
	{"var/log/kern.log", empty},
	{"var/log/mail.log", empty},
	{"var/log/maillog", empty},
	{"var/log/messages", empty},
	{"var/log/secure", empty},
	{"var/log/syslog", empty},
	{"var/log/user.log", empty},
	{"var/log/yum.log", empty},
}

// userRules are the residue of a build user, with %s for its name.
var userRules = []rule{
	{"home/%s", remove},
	{"etc/sudoers.d/%s", remove},
	{"var/mail/%s", remove},
	{"var/spool/mail/%s", remove},
	{"var/spool/cron/%s", remove},
	{"var/spool/cron/crontabs/%s", remove},
	{"var/lib/sudo/lectured/%s", remove},
	{"var/lib/sudo/%s", remove},
	{"var/lib/systemd/linger/%s", remove},
	{"var/lib/AccountsService/users/%s", remove},
}

// accountFiles name users, one line each, with the name before the first colon;
// groups list members after the last. The copies with a dash are those that
// passwd(1) and its kin keep.
var accountFiles = []string{
	"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid",
	"etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
}

// Paths of what the builder installs, below the root.
const (
	HelperFile = "usr/local/sbin/goldsmith-helper"
	UnitName   = "goldsmith-helper.service"
	UnitFile   = "etc/systemd/system/" + UnitName
	UnitLink   = "etc/systemd/system/sysinit.target.wants/" + UnitName
	// Linger keeps the build user's manager running between logins.
	Linger = "var/lib/systemd/linger/" + protocol.BuildUser
	// RecordDir holds the Record and is removed last.
	RecordDir = "var/lib/goldsmith-build"
)
