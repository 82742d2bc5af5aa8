package recipe

// debianPackages make a small server: what Debian's own cloud images have that
// matters to a user of an image, and a boot loader for both firmwares.
var debianPackages = []string{
	// System
	"systemd-sysv", "systemd-resolved", "systemd-timesyncd", "dbus", "udev", "polkitd", "libpam-systemd",
	"linux-image-cloud-amd64", "initramfs-tools", "zstd", "e2fsprogs", "dosfstools", "fdisk", "gdisk", "cloud-guest-utils",
	// Boot
	"grub-cloud-amd64", "grub-pc-bin", "grub-efi-amd64-bin",
	// Cloud
	"cloud-init", "waagent", "netplan.io", "openssh-server", "openssh-client", "sudo",
	// Tools
	"ca-certificates", "curl", "python3", "iproute2", "iputils-ping", "netbase", "procps", "less", "vim-tiny", "locales",
	"apt-utils", "debian-archive-keyring", "logrotate", "man-db", "bash-completion", "unattended-upgrades",
}

// Debian12 makes Debian 12 for x86-64: one disk that boots under UEFI (shim and
// GRUB, also with secure boot) and under a BIOS (GRUB in the boot sector), with
// cloud-init, sshd and the Azure agent. Kernel and boot loader upgrade in the
// guest as in Debian's own cloud images.
func Debian12() *Recipe {
	r := &Recipe{name: "debian-12", suite: "bookworm", packages: debianPackages}
	r.overlay = []file{
		{name: "/etc/fstab", mode: 0o644, text: "UUID=" + r.rootUUID() + " / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n" +
			"UUID=" + r.espUUID() + " /boot/efi vfat defaults,umask=0077,nofail 0 0\n"},
		{name: "/etc/hostname", mode: 0o644, text: "localhost\n"},
		{name: "/etc/hosts", mode: 0o644, text: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"},
		{name: "/etc/default/locale", mode: 0o644, text: "LANG=C.UTF-8\n"},
		{name: "/etc/resolv.conf", link: "../run/systemd/resolve/stub-resolv.conf"},
		// Lets grub-cloud reinstall the boot loader when GRUB is upgraded.
		{name: "/etc/grub.d/enable_cloud", mode: 0o644},
		{name: "/etc/default/grub.d/10_image.cfg", mode: 0o644, text: grubDefaults},
		{name: "/boot/grub/grub.cfg", mode: 0o600, text: r.firstGrub()},
		{name: "/boot/grub/early.cfg", mode: 0o600, text: r.earlyGrub()},
		{name: "/etc/cloud/cloud.cfg.d/95_datasources.cfg", mode: 0o644, text: "datasource_list: [NoCloud, Azure, None]\n"},
		{name: "/etc/machine-id", mode: 0o444},
	}
	r.script = debianScript
	return r
}

// kernelArgs name the interfaces eth0 and so on, whatever slot a virtual network
// card sits in, and put messages and a login on the serial port.
const kernelArgs = "console=tty0 console=ttyS0,115200 net.ifnames=0"

const grubDefaults = `# Settings of this image, after /etc/default/grub.
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="` + kernelArgs + `"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
`

// earlyGrub is what the boot loader runs before it knows any file system.
func (r *Recipe) earlyGrub() string {
	return "search.fs_uuid " + r.rootUUID() + " root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
}

// firstGrub is the boot menu until update-grub writes its own at the first
// kernel upgrade.
func (r *Recipe) firstGrub() string {
	return `serial --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Debian GNU/Linux' {
	linux /vmlinuz root=UUID=` + r.rootUUID() + ` ro ` + kernelArgs + `
	initrd /initrd.img
}
`
}

// debianScript finishes the root file system. The links to kernel and initramfs
// follow upgrades; the modules are what grub-install would copy.
const debianScript = `set -eu
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/*.img -t "$(mkdir -p /boot/grub/i386-pc && echo /boot/grub/i386-pc)"
mkdir -p /boot/grub/x86_64-efi /boot/efi
cp /usr/lib/grub/x86_64-efi/*.mod /usr/lib/grub/x86_64-efi/*.lst /boot/grub/x86_64-efi/
grub-mkimage -O i386-pc -d /usr/lib/grub/i386-pc -p /boot/grub -c /boot/grub/early.cfg \
	-o /boot/grub/i386-pc/core.img biosdisk part_gpt ext2 search_fs_uuid configfile normal linux gzio serial terminal echo test
rm -f /boot/grub/early.cfg
grub-editenv /boot/grub/grubenv create
test -e /vmlinuz -a -e /initrd.img
systemctl enable --quiet systemd-networkd.service systemd-resolved.service ssh.service
rm -f /etc/ssh/ssh_host_*
rm -rf /var/lib/cloud/* /var/log/journal
`
