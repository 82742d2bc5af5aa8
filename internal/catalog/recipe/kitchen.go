package recipe

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// epoch is the modification time of everything in the image that has no better
// one, and the clock of the file system tools: the release of Debian 12.
const epoch = 1686355200

// kitchen is the scratch space of one Make.
type kitchen struct {
	recipe  *Recipe
	tools   map[string]string
	events  event.Sink
	sources []string
	proxy   string
	work    string // private, on the file system of the result
	hall    string // reachable by mapped users
	parts   map[string][]byte
}

// open makes the directory that mmdebstrap works in.
func (k *kitchen) open() error {
	hall, err := os.MkdirTemp("", "goldsmith-recipe-")
	if err == nil {
		err = os.Chmod(hall, 0o711)
	}
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "cannot make a temporary directory: %w", err)
	}
	k.hall = hall
	return nil
}

// clean removes everything, also files that belong to mapped users, which this
// user can only remove from inside a user namespace.
func (k *kitchen) clean(ctx context.Context) error {
	dirs := []string{k.work}
	if k.hall != "" {
		dirs = append(dirs, k.hall)
	}
	var errs []error
	for _, dir := range dirs {
		if os.RemoveAll(dir) == nil {
			continue
		}
		err := k.mapped(ctx, nil, "rm", "-rf", "--one-file-system", dir)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			errs = append(errs, arm.Errorf(arm.CodeInternal, "cannot remove the scratch directory %s, remove it by hand: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// mapped runs a program as root, or as what looks like root in a user namespace.
func (k *kitchen) mapped(ctx context.Context, env []string, args ...string) error {
	c := command{path: "/usr/bin/env", args: args, env: env}
	if os.Geteuid() != 0 {
		c.path = k.tools["unshare"]
		c.args = append([]string{"--map-root-user", "--map-auto", "--"}, args...)
	}
	return c.run(ctx)
}

// bootstrap installs the packages into work/root.tar.
func (k *kitchen) bootstrap(ctx context.Context, _ string) error {
	overlay, err := k.overlay()
	if err != nil {
		return err
	}
	name := filepath.Join(k.hall, "overlay.tar")
	if err := os.WriteFile(name, overlay, 0o644); err != nil {
		return err
	}
	mode := "unshare"
	if os.Geteuid() == 0 {
		mode = "root"
	}
	args := []string{
		"--mode=" + mode, "--variant=minbase", "--format=tar", "--skip=output/dev",
		"--include=" + strings.Join(k.recipe.packages, ","),
		"--customize-hook=tar-in " + quote(name) + " /",
		`--customize-hook=chroot "$1" sh ` + scriptPath,
		`--customize-hook=rm -f "$1"` + scriptPath,
		k.recipe.suite, filepath.Join(k.work, "root.tar"),
	}
	c := command{
		path: k.tools["mmdebstrap"],
		env:  []string{"TMPDIR=" + k.hall, "SOURCE_DATE_EPOCH=" + strconv.Itoa(epoch), "LC_ALL=C.UTF-8"},
		line: k.report,
	}
	if k.proxy != "" {
		c.env = append(c.env, "http_proxy="+k.proxy, "https_proxy="+k.proxy)
	}
	if len(k.sources) > 0 {
		args = append(args, "-")
		c.stdin = []byte(strings.Join(k.sources, "\n") + "\n")
	}
	c.args = args
	err = c.run(ctx)
	var tool *toolError
	if !errors.As(err, &tool) {
		return err
	}
	switch {
	case isNoSpace(err):
		return err
	case strings.Contains(tool.tail, "subuid") || strings.Contains(tool.tail, "newuidmap") || strings.Contains(tool.tail, "unshare"):
		return arm.Errorf(arm.CodeMissingTool, "this user cannot make a base image, because it has no range of user ids in a user namespace: give it one in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER): %w", err)
	}
	return arm.Errorf(arm.CodeFetchFailed, "the packages of the base image could not be installed from the host's APT sources: check them with 'apt-get update': %w", err)
}

// report passes mmdebstrap's own messages on; package managers are too chatty.
func (k *kitchen) report(line string) {
	if text, ok := strings.CutPrefix(line, "I: "); ok {
		k.events.Emit(event.Event{Kind: event.Progress, Text: k.recipe.name + ": " + text})
	}
	if text, ok := strings.CutPrefix(line, "W: "); ok {
		k.events.Emit(event.Event{Kind: event.Warning, Text: k.recipe.name + ": " + text})
	}
}

// overlay is a tar of the recipe's files, script and the keyrings of the host's
// own archives.
func (k *kitchen) overlay() ([]byte, error) {
	files := append([]file{{name: scriptPath, mode: 0o700, text: k.recipe.script}}, k.recipe.overlay...)
	for _, name := range keyrings(k.sources) {
		key, err := os.ReadFile(name)
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "cannot read the keyring of an APT source of this host: %w", err)
		}
		files = append(files, file{name: name, mode: 0o644, text: string(key)})
	}
	var b bytes.Buffer
	if err := writeTar(&b, files); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// partition makes the empty disk.
func (k *kitchen) partition(ctx context.Context, disk string) error {
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(DiskBytes), f.Close()); err != nil {
		return err
	}
	return command{path: k.tools["sfdisk"], args: []string{"--quiet", disk}, stdin: []byte(k.recipe.partitionScript())}.run(ctx)
}

// rootScript unpacks the tar and makes the file system of it in one go, because
// both must see the same owners. $1 tar, $2 tree, $3 mke2fs, the rest its
// arguments.
const rootScript = `set -e
mkdir "$2"
tar --extract --preserve-permissions --numeric-owner --xattrs --xattrs-include='*' --directory="$2" --file="$1"
mkdir -p "$2/dev"
tree=$2 tool=$3
shift 3
"$tool" -d "$tree" "$@"
rm -rf "$tree"
`

// mke2fsConf keeps the file system's features to those that the image's own boot
// loader reads, whatever this host's mke2fs would choose.
const mke2fsConf = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384

[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
`

// rootFS fills the root partition.
func (k *kitchen) rootFS(ctx context.Context, disk string) error {
	conf := filepath.Join(k.work, "mke2fs.conf")
	if err := os.WriteFile(conf, []byte(mke2fsConf), 0o644); err != nil {
		return err
	}
	tarball := filepath.Join(k.work, "root.tar")
	if err := k.take(tarball); err != nil {
		return err
	}
	env := []string{
		"MKE2FS_CONFIG=" + conf,
		"SOURCE_DATE_EPOCH=" + strconv.Itoa(epoch), "E2FSPROGS_FAKE_TIME=" + strconv.Itoa(epoch),
	}
	err := k.mapped(ctx, env, "sh", "-c", rootScript, "sh", tarball, filepath.Join(k.work, "tree"), k.tools["mke2fs"],
		"-q", "-F", "-t", "ext4", "-L", "root", "-U", k.recipe.rootUUID(),
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,lazy_itable_init=0", rootPart.start, k.recipe.identity("hash seed")),
		disk, strconv.FormatInt(rootPart.size/1024, 10)+"k")
	if err != nil {
		return err
	}
	return os.Remove(tarball)
}

// Boot loader parts in the root file system.
const (
	shimFile     = "usr/lib/shim/shimx64.efi.signed"
	grubEFIFile  = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	bootFile     = "usr/lib/grub/i386-pc/boot.img"
	coreFile     = "boot/grub/i386-pc/core.img"
	maxBootBytes = 8 << 20
)

// take reads the boot loader's parts out of the tar.
func (k *kitchen) take(tarball string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	k.parts = map[string][]byte{shimFile: nil, grubEFIFile: nil, bootFile: nil, coreFile: nil}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if _, wanted := k.parts[name]; wanted && h.Size <= maxBootBytes {
			if k.parts[name], err = io.ReadAll(r); err != nil {
				return err
			}
		}
	}
	for name, content := range k.parts {
		if len(content) == 0 {
			return fmt.Errorf("the packages did not bring /%s", name)
		}
	}
	return nil
}

// esp fills the EFI system partition with the removable-media boot path, which
// needs no boot entry in the firmware.
func (k *kitchen) esp(ctx context.Context, disk string) error {
	img := filepath.Join(k.work, "esp.img")
	f, err := os.Create(img)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(espPart.size), f.Close()); err != nil {
		return err
	}
	env := []string{"SOURCE_DATE_EPOCH=" + strconv.Itoa(epoch), "TZ=UTC"}
	steps := []command{
		{path: k.tools["mkfs.vfat"], args: []string{"--invariant", "-F", "32", "-s", "1", "-n", "ESP", "-i", k.recipe.espID(), img}},
		{path: k.tools["mmd"], args: []string{"-i", img, "::EFI", "::EFI/BOOT", "::EFI/debian"}},
	}
	for _, f := range []struct {
		to      string
		content []byte
	}{
		{"EFI/BOOT/BOOTX64.EFI", k.parts[shimFile]},
		{"EFI/BOOT/grubx64.efi", k.parts[grubEFIFile]},
		{"EFI/debian/grub.cfg", []byte(k.recipe.earlyGrub())},
	} {
		from := filepath.Join(k.work, filepath.Base(f.to))
		if err := os.WriteFile(from, f.content, 0o644); err != nil {
			return err
		}
		steps = append(steps, command{path: k.tools["mcopy"], args: []string{"-i", img, from, "::" + f.to}})
	}
	for _, step := range steps {
		step.env = env
		if err := step.run(ctx); err != nil {
			return err
		}
	}
	if err := pour(disk, espPart.start, img); err != nil {
		return err
	}
	return os.Remove(img)
}

// pour copies the file from into disk at offset at. The disk has zeros there
// already, so blocks of zeros are left out and stay holes.
func pour(disk string, at int64, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(src, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, err := dst.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// bios writes the boot sector and the boot loader that it starts.
func (k *kitchen) bios(_ context.Context, disk string) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	mbr := make([]byte, sectorBytes)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		return err
	}
	core, err := patchBoot(mbr, k.parts[bootFile], k.parts[coreFile], uint64(biosBoot.start/sectorBytes))
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(core, biosBoot.start); err != nil {
		return err
	}
	_, err = f.WriteAt(mbr, 0)
	return err
}

// quote protects s from the word splitting of mmdebstrap's special hooks.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
