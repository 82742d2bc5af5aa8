package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/machine/cloudkernel"
)

// generalise is what prepares an image in every rival, as goldsmith's own script.
const generalise = "sudo /usr/sbin/waagent -force -deprovision+user && sync"

// What every rival's guest runs on: what goldsmith's does where there is no KVM.
const (
	guestCPU         = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
	guestAccelerator = "tcg,thread=multi,tb-size=128"
)

// firmwareDrives are the UEFI firmware and a copy of its variables.
var firmwareDrives = []string{
	"if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
	"if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd",
}

// rival builds the recipe another way and reports it.
type rival func(ctx context.Context) error

// rivalry is what all rivals build from.
type rivalry struct {
	*bench
	dir     string
	program string
	base    string // qcow2 of the base, as goldsmith has it
	seed    string // its first-boot data: a user "bench" with a key
	key     string
	made    *comparison
	disk    int64 // bytes of the base's disk
	stages  bool  // all but the last stage of packer staged by hand are built

	compared map[string]bool // rivals whose image was
	says     string          // goldsmith's image when it is booted
}

// newRivals prepares the rivals that were asked for.
func (b *bench) newRivals(ctx context.Context) ([]rival, error) {
	if b.rivals == "" {
		return nil, nil
	}
	program, err := filepath.Abs(b.binary)
	if err != nil {
		return nil, err
	}
	v := &rivalry{bench: b, dir: filepath.Join(b.work, "rivals"), program: program, compared: map[string]bool{}}
	if err := v.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare the rivals: %w", err)
	}
	var out []rival
	for _, name := range strings.Split(b.rivals, ",") {
		switch name {
		case "packer":
			out = append(out, func(ctx context.Context) error { return v.packer(ctx, "packer default", false) })
		case "packer-tuned":
			out = append(out, func(ctx context.Context) error { return v.packer(ctx, "packer tuned", true) })
		case "packer-staged":
			out = append(out, v.staged)
		case "virt-customize":
			out = append(out, v.customize)
		default:
			return nil, fmt.Errorf("no rival is called %q", name)
		}
	}
	return out, nil
}

// run runs a command and returns its wall time in seconds.
func (v *rivalry) run(ctx context.Context, env []string, name string, args ...string) (float64, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = v.dir, append(os.Environ(), env...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-4000):])
	}
	return time.Since(start).Seconds(), nil
}

// prepare writes the base disk, a key, and the seed disk that signs it in.
func (v *rivalry) prepare(ctx context.Context) error {
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return err
	}
	// The disk that goldsmith's machines stand on.
	if _, err := v.build(ctx, v.recipe, "rivals"); err != nil {
		return err
	}
	raw, err := v.baseDisk()
	if err != nil {
		return err
	}
	v.base, v.key, v.seed = filepath.Join(v.dir, "base.qcow2"), filepath.Join(v.dir, "key"), filepath.Join(v.dir, "seed.iso")
	if _, err := v.run(ctx, nil, "qemu-img", "convert", "-O", "qcow2", raw, v.base); err != nil {
		return err
	}
	info, err := os.Stat(raw)
	if err != nil {
		return err
	}
	v.disk = info.Size()
	own := filepath.Join(v.dir, "own.raw")
	if _, err := v.run(ctx, nil, v.program, "--data", v.datadir, "image", "export", "rivals", "--output", own); err != nil {
		return err
	}
	if v.made, err = newComparison(ctx, v.dir, own); err != nil {
		return err
	}
	if v.says, err = v.boots(ctx, own, "raw"); err != nil {
		return fmt.Errorf("boot goldsmith's image: %w", err)
	}
	if err := os.Remove(own); err != nil {
		return err
	}
	if _, err := v.run(ctx, nil, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", v.key); err != nil {
		return err
	}
	public, err := os.ReadFile(v.key + ".pub")
	if err != nil {
		return err
	}
	// Debian 12's sshd refuses the signatures that packer 1.6.6 makes with RSA.
	user := "#cloud-config\nusers:\n- name: bench\n  shell: /bin/bash\n  sudo: ALL=(ALL) NOPASSWD:ALL\n  ssh_authorized_keys:\n  - " + string(public) +
		"write_files:\n- path: /etc/ssh/sshd_config.d/bench.conf\n  content: |\n    PubkeyAcceptedAlgorithms +ssh-rsa\n"
	for name, text := range map[string]string{"user-data": user, "meta-data": "instance-id: bench\nlocal-hostname: bench\n"} {
		if err := os.WriteFile(filepath.Join(v.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = v.run(ctx, nil, "xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", v.seed, "user-data", "meta-data")
	return err
}

// provisioners are the steps from first to last, counted from 1, as packer's.
func (v *rivalry) provisioners(scripts [5]string, first, last int) (out []any) {
	for i := first; i <= last; i++ {
		if i == 1 {
			out = append(out, map[string]any{"type": "file", "source": filepath.Join(v.recipe.dir, "payload.bin"), "destination": "/tmp/payload.bin"})
			continue
		}
		out = append(out, map[string]any{"type": "shell", "script": scripts[i-1]})
	}
	return out
}

// packerTemplate is a template of packer 1.6.6's qemu builder. Tuned takes every
// setting that its documentation has for speed.
func (v *rivalry) packerTemplate(base, out string, tuned bool, steps []any) map[string]any {
	builder := map[string]any{
		"type": "qemu", "accelerator": "tcg", "headless": true, "disk_image": true, "iso_url": base, "iso_checksum": "none",
		"format": "qcow2", "disk_interface": "virtio", "net_device": "virtio-net", "cpus": 1, "memory": 2048,
		"disk_size":    fmt.Sprintf("%dM", v.disk>>20), // as goldsmith's, which stays as large as the base
		"ssh_username": "bench", "ssh_private_key_file": v.key, "ssh_timeout": "20m", "ssh_handshake_attempts": 1000,
		"shutdown_command": "sudo poweroff", "output_directory": out, "vm_name": "disk",
		"qemuargs": [][]string{
			{"-cpu", guestCPU}, {"-machine", "q35"}, {"-accel", guestAccelerator},
			{"-drive", firmwareDrives[0]}, {"-drive", firmwareDrives[1]},
			{"-drive", "if=virtio,format=qcow2,file=" + filepath.Join(out, "disk") + ",cache=unsafe,discard=unmap"},
			{"-drive", "if=virtio,format=raw,readonly=on,file=" + v.seed},
		},
	}
	if tuned {
		// Without the format packer 1.6.6 and today's qemu-img do not agree on
		// backing files.
		for key, value := range map[string]any{
			"use_backing_file": true, "qemu_img_args": map[string]any{"create": []string{"-F", "qcow2"}}, "skip_resize_disk": true,
			"boot_wait": "-1s", "disk_cache": "unsafe", "disk_discard": "unmap", "disk_detect_zeroes": "unmap",
		} {
			builder[key] = value
		}
	}
	return map[string]any{"builders": []any{builder}, "provisioners": steps}
}

// runPacker builds a template and flattens its disk, as every builder here does.
func (v *rivalry) runPacker(ctx context.Context, name string, template map[string]any, out, flat string) (float64, error) {
	if err := os.RemoveAll(out); err != nil {
		return 0, err
	}
	text, err := json.MarshalIndent(template, "", " ")
	if err != nil {
		return 0, err
	}
	file := filepath.Join(v.dir, name+".json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return 0, err
	}
	env := []string{"CHECKPOINT_DISABLE=1", "PACKER_CACHE_DIR=" + filepath.Join(v.dir, "cache")}
	if _, err := v.run(ctx, env, "packer", "validate", file); err != nil {
		return 0, err
	}
	built, err := v.run(ctx, env, "packer", "build", "-force", file)
	if err != nil {
		return 0, err
	}
	flattened, err := v.run(ctx, nil, "qemu-img", "convert", "-O", "qcow2", filepath.Join(out, "disk"), flat)
	return built + flattened, err
}

// packer builds the whole recipe: what it does for every scenario.
func (v *rivalry) packer(ctx context.Context, name string, tuned bool) error {
	scripts, err := v.recipe.also(5, v.fresh()+"\n"+generalise).write(filepath.Join(v.dir, "scripts"))
	if err != nil {
		return err
	}
	slug := strings.ReplaceAll(name, " ", "-")
	out := filepath.Join(v.dir, slug)
	took, err := v.runPacker(ctx, slug, v.packerTemplate(v.base, out, tuned, v.provisioners(scripts, 1, 5)), out, filepath.Join(v.dir, slug+".qcow2"))
	if err != nil {
		return err
	}
	v.report.join("rival", name+", every scenario", "s", "C, N, L, M and the second half of F", took)
	return v.compare(ctx, name, filepath.Join(v.dir, slug+".qcow2"))
}

// staged is what packer's users do by hand: a template per step, each from the
// output of the one before. Changing the last step runs only its template, so the
// others are built in the first round alone.
func (v *rivalry) staged(ctx context.Context) error {
	scripts, err := v.recipe.also(5, v.fresh()+"\n"+generalise).write(filepath.Join(v.dir, "staged-scripts"))
	if err != nil {
		return err
	}
	// What a step uploads to /tmp is gone after a boot, so the first two are one stage.
	stages := [][2]int{{1, 2}, {3, 3}, {4, 4}, {5, 5}}
	base := v.base
	var times []float64
	for i, steps := range stages {
		slug := fmt.Sprint("stage", i+1)
		out, flat := filepath.Join(v.dir, slug), filepath.Join(v.dir, slug+".qcow2")
		if i+1 < len(stages) && v.stages {
			base = flat
			continue
		}
		took, err := v.runPacker(ctx, slug, v.packerTemplate(base, out, true, v.provisioners(scripts, steps[0], steps[1])), out, flat)
		if err != nil {
			return err
		}
		times, base = append(times, took), flat
	}
	v.report.join("rival", "packer hand-staged, L", "s", "", times[len(times)-1])
	if !v.stages {
		sum := func(t []float64) (s float64) {
			for _, x := range t {
				s += x
			}
			return s
		}
		v.report.join("rival", "packer hand-staged, M", "s", "", sum(times[1:]))
		v.report.join("rival", "packer hand-staged, C", "s", "", sum(times))
		v.stages = true
	}
	return v.compare(ctx, "packer hand-staged", base)
}

// customize runs the recipe by virt-customize, which boots an appliance and not the
// guest.
func (v *rivalry) customize(ctx context.Context) error {
	scripts, err := v.recipe.also(5, v.fresh()+"\n"+generalise).write(filepath.Join(v.dir, "virt-scripts"))
	if err != nil {
		return err
	}
	out, flat := filepath.Join(v.dir, "virt.qcow2"), filepath.Join(v.dir, "virt-flat.qcow2")
	env := []string{"LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", "LIBGUESTFS_MEMSIZE=2048"}
	kernel, err := v.applianceKernel(ctx)
	if err != nil {
		return err
	}
	env = append(env, kernel...)
	if _, err := v.run(ctx, nil, "qemu-img", "create", "-q", "-f", "qcow2", "-b", v.base, "-F", "qcow2", out); err != nil {
		return err
	}
	args := []string{"-a", out, "--smp", "1", "--copy-in", filepath.Join(v.recipe.dir, "payload.bin") + ":/tmp"}
	for _, script := range scripts[1:] {
		args = append(args, "--run", script)
	}
	took, err := v.run(ctx, env, "virt-customize", args...)
	if err != nil {
		return err
	}
	flattened, err := v.run(ctx, nil, "qemu-img", "convert", "-O", "qcow2", out, flat)
	if err != nil {
		return err
	}
	v.report.join("rival", "virt-customize, every scenario", "s", "runs in an appliance, not in the guest", took+flattened)
	return v.compare(ctx, "virt-customize", flat)
}

// applianceKernel says by which kernel virt-customize's appliance boots: the one
// that goldsmith's small machines have, with an index of its modules.
func (v *rivalry) applianceKernel(ctx context.Context) (env []string, err error) {
	vmlinuz, modules, err := cloudkernel.Find(ctx)
	if err != nil {
		return nil, err
	}
	modules = filepath.Dir(modules)
	root := filepath.Join(v.dir, "appliance")
	own := filepath.Join(root, "lib", "modules", filepath.Base(modules))
	if _, err := os.Stat(own); err != nil {
		if err := os.CopyFS(own, os.DirFS(modules)); err != nil {
			return nil, err
		}
		if _, err := v.run(ctx, nil, "depmod", "-b", root, filepath.Base(modules)); err != nil {
			return nil, err
		}
	}
	return []string{"SUPERMIN_KERNEL=" + vmlinuz, "SUPERMIN_MODULES=" + own}, nil
}
