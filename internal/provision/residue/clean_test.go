package residue

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/provision/protocol"
)

// tree makes a root file system: names that end in a slash are directories,
// contents that start with "->" links.
func tree(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if link, ok := strings.CutPrefix(content, "->"); err == nil && ok {
			err = os.Symlink(link, path)
		} else if err == nil && strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// contentsOf reads a tree back in the notation of tree, without directories that
// have something in them.
func contentsOf(t *testing.T, root *os.Root) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Type() == fs.ModeSymlink:
			link, err := root.Readlink(name)
			files[name] = "->" + link
			return err
		case d.IsDir():
			entries, err := fs.ReadDir(root.FS(), name)
			if len(entries) == 0 {
				files[name+"/"] = ""
			}
			return err
		}
		text, err := root.ReadFile(name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// built is a guest at the end of a build.
var built = map[string]string{
	"etc/passwd":                             "root:x:0:0:root:/root:/bin/bash\nbuild:x:1000:1000::/home/build:/bin/bash\nbuilder:x:1001:1001::/home/builder:/bin/sh\n",
	"etc/passwd-":                            "root:x:0:0:root:/root:/bin/bash\nbuild:x:1000:1000::/home/build:/bin/bash\n",
	"etc/shadow":                             "root:*:19000::::::\nbuild:!:19000::::::\n",
	"etc/group":                              "adm:x:4:syslog,build\nsudo:x:27:build\nbuild:x:1000:\nbuilder:x:1001:build,other\n",
	"etc/gshadow":                            "sudo:*::build\nbuild:!::\n",
	"etc/subuid":                             "build:100000:65536\n",
	"etc/sudoers.d/90-cloud-init-users":      "build ALL=(ALL) NOPASSWD:ALL\n",
	"etc/sudoers.d/README":                   "kept",
	"etc/ssh/ssh_host_ed25519_key":           "secret",
	"etc/ssh/ssh_host_ed25519_key.pub":       "public",
	"etc/ssh/sshd_config":                    "kept",
	"etc/netplan/50-cloud-init.yaml":         "x",
	"etc/netplan/60-mine.yaml":               "kept",
	"etc/machine-id":                         "0123456789abcdef0123456789abcdef\n",
	"var/lib/dbus/machine-id":                "0123456789abcdef0123456789abcdef\n",
	"etc/resolv.conf":                        "",
	"etc/systemd/system/x.service":           "kept",
	UnitFile:                                 "x",
	UnitLink:                                 "->/" + UnitFile,
	HelperFile:                               "x",
	"etc/sysconfig/network-scripts/ifcfg-a":  "# Created by cloud-init on instance boot\nx",
	"etc/sysconfig/network-scripts/ifcfg-lo": "kept",
	"home/build/.ssh/authorized_keys":        "key",
	"home/build/.bash_history":               "x",
	"home/builder/notes":                     "kept",
	"home/builder/.bash_history":             "x",
	"root/.bash_history":                     "x",
	"root/.bashrc":                           "kept",
	"var/lib/cloud/instance":                 "->/var/lib/cloud/instances/i",
	"var/lib/cloud/instances/i/user-data":    "x",
	"var/lib/cloud/sem/y":                    "x",
	"var/lib/cloud/seed/mine":                "kept",
	"var/lib/systemd/random-seed":            "x",
	"var/lib/waagent/":                       "",
	"var/log/cloud-init-output.log":          "x",
	"var/log/journal/abc/system.journal":     "x",
	"var/log/apt/history.log":                "x",
	"var/log/syslog":                         "x",
	"var/log/syslog.1":                       "x",
	"var/log/syslog.2.gz":                    "x",
	"var/log/nginx/access.log":               "kept",
	"tmp/.X11-unix/s":                        "x",
	"tmp/script.sh":                          "x",
	"var/tmp/y":                              "x",
}

func TestClean(t *testing.T) {
	root := tree(t, built)
	if err := (Record{ResolvConf: Saved{Link: "../run/resolv.conf"}}).Write(root); err != nil {
		t.Fatal(err)
	}
	before, err := Find(root.FS(), "build")
	if err != nil || len(before) < 20 {
		t.Errorf("before: %d, %v", len(before), err)
	}
	report := Clean(root, "build")
	if len(report.Warnings) > 0 || report.Removed < 20 {
		t.Errorf("%+v", report)
	}
	want := map[string]string{
		"etc/passwd":                   "root:x:0:0:root:/root:/bin/bash\nbuilder:x:1001:1001::/home/builder:/bin/sh\n",
		"etc/passwd-":                  "root:x:0:0:root:/root:/bin/bash\n",
		"etc/shadow":                   "root:*:19000::::::\n",
		"etc/group":                    "adm:x:4:syslog\nsudo:x:27:\nbuilder:x:1001:other\n",
		"etc/gshadow":                  "sudo:*::\n",
		"etc/subuid":                   "",
		"etc/sudoers.d/README":         "kept",
		"etc/ssh/sshd_config":          "kept",
		"etc/netplan/60-mine.yaml":     "kept",
		"etc/machine-id":               "",
		"var/lib/dbus/machine-id":      "->/etc/machine-id",
		"etc/resolv.conf":              "->../run/resolv.conf",
		"etc/systemd/system/x.service": "kept",
		"etc/systemd/system/sysinit.target.wants/": "",
		"etc/sysconfig/network-scripts/ifcfg-lo":   "kept",
		"home/builder/notes":                       "kept",
		"root/.bashrc":                             "kept",
		"usr/local/sbin/":                          "",
		"var/lib/cloud/seed/mine":                  "kept",
		"var/lib/systemd/":                         "",
		"var/lib/waagent/":                         "",
		"var/log/journal/":                         "",
		"var/log/apt/":                             "",
		"var/log/syslog":                           "",
		"var/log/nginx/access.log":                 "kept",
		"tmp/":                                     "",
		"var/tmp/":                                 "",
	}
	if diff := cmp.Diff(want, contentsOf(t, root)); diff != "" {
		t.Error(diff)
	}
	if after, err := Find(root.FS(), "build"); err != nil || len(after) > 0 {
		t.Errorf("after: %v, %v", after, err)
	}
	if report := Clean(root, "build"); report.Removed > 0 {
		t.Errorf("a second time: %+v", report)
	}
}

func TestCleanFollowsNoLinkOut(t *testing.T) {
	outside := t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := tree(t, map[string]string{
		"etc/passwd":     "build:x:1000:1000::/../../.." + outside + "/build:/bin/sh\n",
		"etc/shadow":     "->" + kept,
		"etc/machine-id": "->" + kept,
		"tmp":            "->" + outside,
		"var/tmp/link":   "->" + outside,
		"var/log":        "->" + outside,
		"home/build":     "->" + outside,
	})
	Clean(root, "build")
	if text, err := os.ReadFile(kept); err != nil || string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestHostileUserNames(t *testing.T) {
	for _, name := range []string{"root", "../etc", "a/b", "*", "", "a:b", "A", "-x", "1a", strings.Repeat("a", 33)} {
		if plainName(name) {
			t.Errorf("%q passes for a build user", name)
		}
		root := tree(t, map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "home/a/b/f": "kept"})
		Clean(root, name)
		if text, err := root.ReadFile("etc/passwd"); err != nil || len(text) == 0 {
			t.Errorf("%q: %q, %v", name, text, err)
		}
		if _, err := root.Stat("home/a/b/f"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"build", "build-2", "_b"} {
		if !plainName(name) {
			t.Errorf("%q does not pass for a build user", name)
		}
	}
}

func TestRestoreOfResolvConf(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"link to file":   {"->../run/x", "nameserver 1.2.3.4\n"},
		"file to file":   {"nameserver 9.9.9.9\n", ""},
		"file to link":   {"nameserver 9.9.9.9\n", "->/run/y"},
		"nothing before": {"", "nameserver 1.2.3.4\n"},
		"unchanged":      {"->../run/x", "->../run/x"},
	} {
		t.Run(name, func(t *testing.T) {
			before := map[string]string{"etc/keep": ""}
			if c.before != "" {
				before["etc/resolv.conf"] = c.before
			}
			root := tree(t, before)
			saved, err := Save(root, "etc/resolv.conf")
			if err != nil {
				t.Fatal(err)
			}
			if err := (Record{ResolvConf: saved}).Write(root); err != nil {
				t.Fatal(err)
			}
			_ = root.Remove("etc/resolv.conf")
			if link, ok := strings.CutPrefix(c.after, "->"); ok {
				err = root.Symlink(link, "etc/resolv.conf")
			} else {
				err = root.WriteFile("etc/resolv.conf", []byte(c.after), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if report := Clean(root, "build"); len(report.Warnings) > 0 {
				t.Error(report.Warnings)
			}
			got := contentsOf(t, root)
			delete(got, "var/lib/")
			if diff := cmp.Diff(before, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSettleAndUnsettle(t *testing.T) {
	files := map[string]string{
		"etc/environment":                      "PATH=/bin",
		"etc/apt/apt.conf.d/":                  "",
		"etc/sudoers.d/":                       "",
		"usr/local/share/ca-certificates/":     "",
		"etc/apt/sources.list":                 "deb http://archive.example.org/debian x main\ndeb http://archive.example.org/debian-security x main\n",
		"etc/apt/sources.list.d/other.sources": "URIs: http://other.example/debian\n",
		"etc/dnf/dnf.conf":                     "[main]\n",
	}
	root := tree(t, files)
	s := protocol.Settings{
		HTTPProxy: "http://proxy:3128", NoProxy: "localhost", CACertificates: "-----BEGIN CERTIFICATE-----\n",
		Mirrors: map[string]string{"http://archive.example.org/debian": "http://m/deb", "http://archive.example.org/debian-security": "http://m/sec"},
	}
	for range 2 { // the second call takes the first one back
		trust, err := Settle(root, s)
		if err != nil || !trust {
			t.Fatalf("%v, %v", trust, err)
		}
	}
	got := contentsOf(t, root)
	for name, want := range map[string]string{
		"etc/environment":      "PATH=/bin\n" + blockBegin + "http_proxy=\"http://proxy:3128\"\nHTTP_PROXY=\"http://proxy:3128\"\nno_proxy=\"localhost\"\nNO_PROXY=\"localhost\"\n" + blockEnd,
		aptProxyFile:           "Acquire::http::Proxy \"http://proxy:3128\";\n",
		debianCAFile:           "-----BEGIN CERTIFICATE-----\n",
		"etc/apt/sources.list": "deb http://m/deb x main\ndeb http://m/sec x main\n",
		"etc/dnf/dnf.conf":     "[main]\n" + blockBegin + "proxy=http://proxy:3128\n" + blockEnd,
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	// What a customizer changes meanwhile stays.
	if err := root.WriteFile("etc/apt/sources.list", []byte(got["etc/apt/sources.list"]+"deb http://mine x main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if trust, err := Unsettle(root); err != nil || !trust {
		t.Errorf("%v, %v", trust, err)
	}
	files["etc/apt/sources.list"] += "deb http://mine x main\n"
	files["etc/environment"] += "\n"
	got = contentsOf(t, root)
	delete(got, RecordDir+"/record.json")
	if diff := cmp.Diff(files, got); diff != "" {
		t.Error(diff)
	}
}

func TestSettleRefuses(t *testing.T) {
	for _, s := range []protocol.Settings{
		{HTTPProxy: "http://x\"; evil"}, {NoProxy: "a\nb"}, {Mirrors: map[string]string{"": "x"}}, {Mirrors: map[string]string{"x": ""}},
	} {
		if _, err := Settle(tree(t, nil), s); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}
