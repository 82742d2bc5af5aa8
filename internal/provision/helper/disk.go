package helper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"goldsmith/internal/provision/protocol"
)

// ioctl requests of linux/fs.h that x/sys does not have.
const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlTrim   = 0xc0185879 // FITRIM
)

// mount is one line of proc_pid_mountinfo(5).
type mount struct {
	device   string // "major:minor"
	point    string
	kind     string
	source   string
	writable bool
}

// parseMounts reads mountinfo; lines it does not understand are passed over.
func parseMounts(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		all = append(all, mount{
			device: left[2], point: unescape(left[4]), kind: right[0], source: unescape(right[1]),
			writable: hasOption(left[5], "rw") && hasOption(right[2], "rw"),
		})
	}
	return all
}

func hasOption(options, want string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == want {
			return true
		}
	}
	return false
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// diskMounts are the writable file systems on disks, each once and the deepest
// first.
func diskMounts(all []mount) []mount {
	var disks []mount
	seen := map[string]bool{}
	for i := len(all) - 1; i >= 0; i-- {
		m := all[i]
		if m.writable && strings.HasPrefix(m.source, "/dev/") && !seen[m.source] {
			seen[m.source] = true
			disks = append(disks, m)
		}
	}
	return disks
}

func mounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return parseMounts(string(text)), err
}

// Sync writes everything to the disk.
func (l *Linux) Sync(context.Context) error {
	unix.Sync()
	return nil
}

// Trim discards the free space of every file system that can.
func (l *Linux) Trim(ctx context.Context) (protocol.Trimmed, error) {
	all, err := mounts()
	if err != nil {
		return protocol.Trimmed{}, err
	}
	var sum protocol.Trimmed
	var errs []error
	for _, m := range diskMounts(all) {
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		n, err := trim(m.point)
		sum.Bytes += n
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("cannot trim %s: %w", m.point, err))
		}
	}
	return sum, errors.Join(errs...)
}

func trim(point string) (int64, error) {
	f, err := os.Open(point)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// struct fstrim_range: start, length, shortest extent.
	r := make([]byte, 24)
	binary.NativeEndian.PutUint64(r[8:], math.MaxUint64)
	err = ioctlBytes(f.Fd(), ioctlTrim, r)
	if err != nil {
		return 0, err
	}
	return int64(binary.NativeEndian.Uint64(r[8:])), nil
}

// Grow waits for root's disk to have g.DiskBytes, then grows root's partition,
// the volume on it if there is one, and its file system. A disk that did not
// grow is no error.
func (l *Linux) Grow(ctx context.Context, g protocol.Grow) (protocol.Grown, error) {
	all, err := mounts()
	if err != nil {
		return protocol.Grown{}, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].point != "/" {
			continue
		}
		if err := grow(ctx, all[i], g.DiskBytes); err != nil {
			return protocol.Grown{}, fmt.Errorf("cannot grow the root file system: %w", err)
		}
		var s unix.Statfs_t
		if err := unix.Statfs("/", &s); err != nil {
			return protocol.Grown{}, err
		}
		return protocol.Grown{Bytes: int64(s.Blocks) * s.Frsize}, nil
	}
	return protocol.Grown{}, errors.New("cannot grow the root file system: it is not mounted")
}

func grow(ctx context.Context, root mount, diskBytes int64) error {
	device, err := filepath.EvalSymlinks(root.source)
	if err != nil {
		return err
	}
	name := filepath.Base(device)
	volume := strings.HasPrefix(name, "dm-")
	if volume {
		slaves, err := os.ReadDir(filepath.Join("/sys/class/block", name, "slaves"))
		if err != nil {
			return err
		}
		if len(slaves) != 1 {
			return fmt.Errorf("%s lies on %d devices", root.source, len(slaves))
		}
		name = slaves[0].Name()
	}
	disk, partition, err := partitionOf(name)
	if err != nil {
		return err
	}
	if err := waitSize(ctx, filepath.Join("/sys/class/block", disk, "size"), diskBytes); err != nil {
		return err
	}
	if partition != "" {
		if err := growPartition(ctx, disk, partition); err != nil {
			return err
		}
	}
	if volume {
		if _, err := run(ctx, "pvresize", "/dev/"+name); err != nil {
			return err
		}
		if out, err := run(ctx, "lvextend", "-l", "+100%FREE", root.source); err != nil && !strings.Contains(out, "matches existing size") {
			return err
		}
	}
	switch root.kind {
	case "ext4", "ext3", "ext2":
		_, err = run(ctx, "resize2fs", root.source)
	case "xfs":
		_, err = run(ctx, "xfs_growfs", "/")
	case "btrfs":
		_, err = run(ctx, "btrfs", "filesystem", "resize", "max", "/")
	default:
		err = fmt.Errorf("a %s cannot be grown while it is mounted", root.kind)
	}
	return err
}

// partitionOf tells what disk a block device lies on and which of its partitions
// it is, "" for the whole disk.
func partitionOf(name string) (disk, partition string, err error) {
	sys := filepath.Join("/sys/class/block", name)
	number, err := os.ReadFile(filepath.Join(sys, "partition"))
	if errors.Is(err, os.ErrNotExist) {
		return name, "", nil
	}
	if err != nil {
		return "", "", err
	}
	target, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return "", "", err
	}
	return filepath.Base(filepath.Dir(target)), strings.TrimSpace(string(number)), nil
}

// growPartition grows a partition to the end of its disk.
func growPartition(ctx context.Context, disk, partition string) error {
	out, err := run(ctx, "growpart", "/dev/"+disk, partition)
	if err != nil && !strings.Contains(out, "NOCHANGE") {
		if errors.Is(err, errNoProgram) {
			return fmt.Errorf("install cloud-guest-utils (or cloud-utils-growpart) in the base image: %w", err)
		}
		return err
	}
	return nil
}

// freeze makes a file system complete on disk and stops writing to it, or
// unmounts it when it cannot be frozen.
func freeze(m mount) error {
	f, err := os.Open(m.point)
	if err != nil {
		return err
	}
	err = ioctlBytes(f.Fd(), ioctlFreeze, nil)
	_ = f.Close()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		err = unix.Unmount(m.point, 0)
	}
	return err
}
