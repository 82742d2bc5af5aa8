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
	return reloadSSH(ctx)
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
	old, err := fs.Glob(l.root.FS(), "etc/ssh/ssh_host_*")
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := l.root.Remove(name); err != nil {
			return err
		}
	}
	const name = "etc/ssh/ssh_host_ed25519_key"
	return errors.Join(
		l.root.WriteFile(name, []byte(private), 0o600),
		l.root.WriteFile(name+".pub", []byte(public), 0o644),
	)
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
	return errors.Join(
		l.root.WriteFile(file, []byte(key+"\n"), 0o600),
		l.root.Lchown(dir, uid, gid), l.root.Lchown(file, uid, gid),
		relabel(dir),
	)
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
