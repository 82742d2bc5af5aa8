//go:build vm

package vm

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"goldsmith/internal/event"
)

// The ordinary user of the tests, and the directory that stays between runs.
const (
	userName = "goldsmith-test"
	userHome = "/var/tmp/goldsmith-test-user"
)

// ordinaryUser is a host whose programs run without any privilege. A test
// process that has none is such a host already.
func ordinaryUser(t *testing.T) (h host, uid uint32) {
	t.Helper()
	if os.Getuid() != 0 {
		return shared(t), uint32(os.Getuid())
	}
	account, err := user.Lookup(userName)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		tool(t, "useradd", "--system", "--no-create-home", "--home-dir", userHome, "--shell", "/bin/sh", userName)
		account, err = user.Lookup(userName)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	bases := filepath.Join(userHome, "cache", "goldsmith", "bases")
	tool(t, "install", "-d", "-o", userName, "-g", account.Gid, userHome, filepath.Join(userHome, "cache"), filepath.Dir(filepath.Dir(bases)), filepath.Dir(bases), bases)
	// Under the name of its digest the base is the user's own: its making is tested
	// elsewhere.
	disk := recipeDisk(t)
	mine := filepath.Join(bases, filepath.Base(disk))
	if _, err := os.Stat(mine); err != nil {
		tool(t, "cp", "--sparse=always", "--preserve=timestamps", disk, mine+".part")
		tool(t, "chown", userName+":", mine+".part")
		if err := os.Rename(mine+".part", mine); err != nil {
			t.Fatal(err)
		}
	}
	scratch, err := os.MkdirTemp(userHome, "scratch-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(scratch); err != nil {
			t.Error(err)
		}
	})
	copied := filepath.Join(scratch, "goldsmith")
	tool(t, "install", "-m", "0755", binary, copied)
	if err := os.Chown(scratch, int(id), -1); err != nil {
		t.Fatal(err)
	}
	return host{
		data: filepath.Join(userHome, "data"), program: copied, scratch: scratch,
		wrap: []string{"setpriv", "--reuid=" + account.Uid, "--regid=" + account.Gid, "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"},
		env:  []string{"HOME=" + userHome, "XDG_CACHE_HOME=" + filepath.Join(userHome, "cache"), "TMPDIR=" + scratch, "USER=" + userName},
	}, uint32(id)
}

// TestOrdinaryUser is a whole build without any privilege.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	h, uid := ordinaryUser(t)
	dir := h.scratch
	if dir == "" {
		dir = t.TempDir()
	}
	file := filepath.Join(dir, "user.qcow2")
	p := h.build(t, h.template(t, templateSpec{Name: "vm-user", Customize: []step{
		shell("write", "echo made | sudo tee /etc/made"),
	}}), "--output", file)
	p.ends(t, 0)
	for _, e := range p.all(ofKind(event.Info)) {
		if strings.Contains(e.Text, "mmdebstrap") {
			t.Errorf("the base was made again, so the user has another digest of it: %s", e.Text)
		}
	}
	tool(t, "qemu-img", "check", "-q", file)
	h.checkUndone(t, p.run(t))
	err := filepath.WalkDir(h.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != uid && !isDatabase(path) {
			t.Errorf("%s belongs to another user", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isDatabase reports whether a file is one that the tests, too, have opened.
func isDatabase(path string) bool { return strings.HasPrefix(filepath.Base(path), "goldsmith.db") }
