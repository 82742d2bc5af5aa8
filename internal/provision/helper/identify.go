package helper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/provision/protocol"
)

// Bounds of the builder's entropy in bytes.
const (
	minEntropy = 32
	maxEntropy = 512
)

// Identify gives the kernel its own random numbers and time first, because
// everything after it may draw on them.
func (l *Linux) Identify(ctx context.Context, id protocol.Identify) error {
	l.identifying.Lock()
	defer l.identifying.Unlock()
	if err := reseed(id.Entropy); err != nil {
		return err
	}
	now := unix.NsecToTimespec(id.UnixNanos)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("cannot set the clock: %w", err)
	}
	if err := l.hostKey(id.HostKey, id.HostPublicKey); err != nil {
		return fmt.Errorf("cannot replace sshd's host keys: %w", err)
	}
	if err := l.authorize(id.User, id.AuthorizedKey); err != nil {
		return fmt.Errorf("cannot authorize the builder's key: %w", err)
	}
	if err := l.settle(ctx, id.Settings); err != nil {
		return fmt.Errorf("cannot apply the settings of the build: %w", err)
	}
	return l.reloadSSH(ctx)
}

// reseed credits entropy to the kernel and makes it draw its next numbers from
// it (random(4): RNDADDENTROPY, RNDRESEEDCRNG). Without the second call the
// kernel goes on for up to a minute as every other guest of the same state does.
func reseed(entropy []byte) error {
	if len(entropy) < minEntropy || len(entropy) > maxEntropy {
		return fmt.Errorf("%d bytes of entropy, want %d to %d", len(entropy), minEntropy, maxEntropy)
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info: bits, bytes, then the bytes.
	pool := make([]byte, 8, 8+len(entropy))
	binary.NativeEndian.PutUint32(pool, uint32(len(entropy)*8))
	binary.NativeEndian.PutUint32(pool[4:], uint32(len(entropy)))
	pool = append(pool, entropy...)
	if err := ioctlBytes(f.Fd(), unix.RNDADDENTROPY, pool); err != nil {
		return fmt.Errorf("cannot add entropy: %w", err)
	}
	if err := ioctlBytes(f.Fd(), unix.RNDRESEEDCRNG, nil); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("cannot reseed the kernel: %w", err)
	}
	return nil
}

// hostKey makes private the only host key of sshd.
func (l *Linux) hostKey(private, public string) error {
	if !strings.HasPrefix(private, "-----BEGIN OPENSSH PRIVATE KEY-----") || !strings.HasPrefix(public, "ssh-ed25519 ") {
		return errors.New("the builder's host key is not an ed25519 key in OpenSSH's format")
	}
	const dir, file = "etc/ssh", "etc/ssh/ssh_host_ed25519_key"
	if now, err := l.root.Lstat(dir); err != nil || !now.ModTime().Equal(l.keysMade) {
		if err := l.removeKeys(dir, file); err != nil {
			return err
		}
	}
	_, err1 := replace(l.root, file, private, 0o600)
	_, err2 := replace(l.root, file+".pub", public, 0o644)
	now, err3 := l.root.Lstat(dir)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	l.keysMade = now.ModTime()
	return nil
}

// removeKeys removes the host keys in dir that do not belong to keep.
func (l *Linux) removeKeys(dir, keep string) error {
	names, err := fs.Glob(l.root.FS(), dir+"/ssh_host_*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == keep || name == keep+".pub" {
			continue
		}
		if err := l.root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// authorize makes key the only one that may log in as name.
func (l *Linux) authorize(name, key string) error {
	if strings.ContainsAny(key, "\n\r") || !strings.HasPrefix(key, "ssh-ed25519 ") {
		return errors.New("the builder's key is not one ed25519 key")
	}
	account, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("the build user does not exist, because cloud-init did not make it: %w", err)
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	if err := errors.Join(err1, err2); err != nil || uid == 0 {
		return fmt.Errorf("%s is no build user: uid %s", name, account.Uid)
	}
	dir := path.Join(strings.TrimPrefix(path.Clean(account.HomeDir), "/"), ".ssh")
	if err := l.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := path.Join(dir, "authorized_keys")
	made, err := replace(l.root, file, key+"\n", 0o600)
	if err != nil || !made && l.owns(uid, dir) && l.owns(uid, file) {
		return err
	}
	return errors.Join(l.root.Lchown(dir, uid, gid), l.root.Lchown(file, uid, gid), relabel(dir))
}

// owns reports whether a file is that user's.
func (l *Linux) owns(uid int, name string) bool {
	info, err := l.root.Lstat(name)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// replace gives a file a new content, and reports whether it made the file anew. One
// that has as many bytes and the same mode is written over, which takes a restored
// guest a tenth of the time that its file system needs to remove and to make a file.
func replace(root *os.Root, name, content string, mode fs.FileMode) (made bool, err error) {
	if old, err := root.Lstat(name); err == nil && old.Mode() == mode && old.Size() == int64(len(content)) {
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return false, err
		}
		_, err = f.WriteString(content)
		return false, errors.Join(err, f.Close())
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, root.WriteFile(name, []byte(content), mode)
}

// relabel gives new files the label that SELinux expects of their place, where
// there is SELinux.
func relabel(name string) error {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	_, err := run(ctx, "restorecon", "-R", "/"+name)
	return err
}
