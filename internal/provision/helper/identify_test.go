package helper

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/provision/protocol"
)

// testGuest is a guest whose files are in a directory of the test.
func testGuest(t *testing.T, files map[string]string) (*Linux, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := NewLinux(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, dir
}

// inodes are the files of a directory with their content and inode.
func inodes(t *testing.T, dir string) (content map[string]string, inode map[string]fs.FileInfo) {
	t.Helper()
	content, inode = map[string]string{}, map[string]fs.FileInfo{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		content[entry.Name()], inode[entry.Name()] = string(text), info
	}
	return content, inode
}

// The builder's key is the only host key, whatever was there before, and a guest that
// has one of the builder's already has the same files written over.
func TestHostKey(t *testing.T) {
	l, dir := testGuest(t, map[string]string{
		"etc/ssh/ssh_host_rsa_key": "of the image", "etc/ssh/ssh_host_ed25519_key": "of the image", "etc/ssh/sshd_config": "kept",
	})
	etc := filepath.Join(dir, "etc/ssh")
	give := func(key string) {
		t.Helper()
		if err := l.hostKey("-----BEGIN OPENSSH PRIVATE KEY-----"+key, "ssh-ed25519 "+key); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"ssh_host_ed25519_key": "-----BEGIN OPENSSH PRIVATE KEY-----" + key, "ssh_host_ed25519_key.pub": "ssh-ed25519 " + key, "sshd_config": "kept",
		}
		got, info := inodes(t, etc)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after the key %s (-want +got):\n%s", key, diff)
		}
		for name, mode := range map[string]fs.FileMode{"ssh_host_ed25519_key": 0o600, "ssh_host_ed25519_key.pub": 0o644} {
			if got := info[name].Mode(); got != mode {
				t.Errorf("after the key %s: mode of %s %v, want %v", key, name, got, mode)
			}
		}
	}
	give("AAAA")
	_, first := inodes(t, etc)
	give("BBBB")
	_, second := inodes(t, etc)
	for name := range first {
		if !os.SameFile(first[name], second[name]) {
			t.Errorf("%s was made anew", name)
		}
	}
	give("longer than before")
	// A customizer may make keys meanwhile, or open the builder's.
	if err := os.WriteFile(filepath.Join(etc, "ssh_host_ecdsa_key"), []byte("of a step"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(etc, "ssh_host_ed25519_key"), 0o666); err != nil {
		t.Fatal(err)
	}
	give("longer than BEFORE")
	// Or put something else in their place.
	if err := os.Remove(filepath.Join(etc, "ssh_host_ed25519_key")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sshd_config", filepath.Join(etc, "ssh_host_ed25519_key")); err != nil {
		t.Fatal(err)
	}
	give("longer than beforE")
}

// A guest that has no settings of a build is not searched for them again, one that
// has some gets them applied anew and taken back.
func TestSettleAgain(t *testing.T) {
	l, dir := testGuest(t, map[string]string{"etc/environment": "A=1\n"})
	environment := filepath.Join(dir, "etc/environment")
	for _, c := range []struct {
		proxy string
		want  bool
	}{{"", false}, {"", false}, {"http://proxy:3128", true}, {"http://proxy:3128", true}, {"", false}} {
		if err := l.settle(t.Context(), protocol.Settings{HTTPProxy: c.proxy}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(environment)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), "proxy:3128"); got != c.want || l.unsettled == c.want {
			t.Errorf("proxy %q: applied %v, known as without settings %v\n%s", c.proxy, got, l.unsettled, text)
		}
	}
}
