package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// bootTime is how long a finished image may take to boot and answer, in an emulated
// guest.
const bootTime = 15 * time.Minute

// bootScript runs at the first boot of a finished image, and says on the console what
// the recipe left in it: packages, files, user, and services that failed.
const bootScript = `#cloud-config
runcmd:
- |
  set -- $(dpkg-query -W | sha256sum) $(sha256sum /usr/local/share/payload.bin) $(sha256sum /etc/bench.conf) $(sha256sum /etc/bench.sum)
  echo "BOOTED packages=$1 payload=$3 conf=$5 sum=$7 worker=$(id -u worker) failed=$(systemctl --failed --no-legend --plain | wc -l)" >/dev/ttyS0
  poweroff -f
`

var bootAnswer = regexp.MustCompile(`BOOTED ([^\r\n]*)`)

// boots boots an image, of which nothing is changed, and returns what it says.
func (v *rivalry) boots(ctx context.Context, image, kind string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTime, fmt.Errorf("the image did not power itself off within %s", bootTime))
	defer cancel()
	const seed = "boot.iso"
	if _, err := os.Stat(filepath.Join(v.dir, seed)); err != nil {
		dir := filepath.Join(v.dir, "boot")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		for name, text := range map[string]string{"user-data": bootScript, "meta-data": "instance-id: boot\nlocal-hostname: boot\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return "", err
			}
		}
		if _, err := v.run(ctx, nil, "xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", seed, "boot/user-data", "boot/meta-data"); err != nil {
			return "", err
		}
	}
	const disk, console = "boot.qcow2", "boot.log"
	if _, err := v.run(ctx, nil, "qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", kind, disk); err != nil {
		return "", err
	}
	args := []string{
		"-display", "none", "-nodefaults", "-no-reboot", "-cpu", guestCPU, "-machine", "q35", "-accel", guestAccelerator, "-smp", "1", "-m", "2048",
		"-serial", "file:" + console, "-nic", "user,model=virtio-net-pci,restrict=on",
		"-drive", "if=virtio,format=qcow2,cache=unsafe,file=" + disk, "-drive", "if=virtio,format=raw,readonly=on,file=" + seed,
	}
	for _, drive := range firmwareDrives {
		args = append(args, "-drive", drive)
	}
	if _, err := v.run(ctx, nil, "qemu-system-x86_64", args...); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(v.dir, console))
	if err != nil {
		return "", err
	}
	found := bootAnswer.FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("the image did not say that it booted; its console ends with\n%s", text[max(0, len(text)-2000):])
	}
	return string(found[1]), nil
}

// compare reports in what a rival's finished image differs from goldsmith's: on the
// disk, and when it is booted. Once is enough for each.
func (v *rivalry) compare(ctx context.Context, name, file string) error {
	if v.compared[name] {
		return nil
	}
	v.compared[name] = true
	if err := v.made.with(ctx, v.report, name, file); err != nil {
		return err
	}
	says, err := v.boots(ctx, file, "qcow2")
	if err != nil {
		return fmt.Errorf("boot the image of %s: %w", name, err)
	}
	same := 0.0
	if says == v.says {
		same = 1
	}
	v.report.add("rival", name+", image boots and says the same as goldsmith's", "", "1 for yes: "+says, same)
	return nil
}
