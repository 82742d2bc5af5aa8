package residue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Report is what Clean did.
type Report struct {
	Removed  int      // files and directories, each with everything below it
	Warnings []string // what could not be cleaned, and why
}

// warn notes a failure; a file that is not there is none.
func (r *Report) warn(name string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("/%s: %v", name, err))
	}
}

// Clean removes everything a build leaves in the root file system: the build
// user with its home, the builder's own files, cloud-init's traces, keys, logs,
// histories and temporary files; and puts back what the Record says was there
// before. It goes on after a failure, which becomes a warning.
func Clean(root *os.Root, user string) Report {
	var r Report
	if plainName(user) {
		r.removeUser(root, user)
	} else if user != "" {
		r.warn("etc/passwd", fmt.Errorf("%q is no name of a build user", user))
	}
	for _, rule := range rules {
		r.apply(root, rule)
	}
	r.machineID(root)
	r.interfaceFiles(root)
	_, err := Unsettle(root)
	r.warn("etc", err)
	record, err := ReadRecord(root)
	if err == nil {
		err = record.ResolvConf.restore(root, "etc/resolv.conf")
	}
	r.warn("etc/resolv.conf", err)
	r.remove(root, RecordDir)
	return r
}

// apply carries out one rule.
func (r *Report) apply(root *os.Root, rule rule) {
	names, err := match(root.FS(), rule.pattern)
	if err != nil {
		r.warn(rule.pattern, err)
		return
	}
	for _, name := range names {
		switch rule.action {
		case remove:
			r.remove(root, name)
		case contents:
			r.contents(root, name)
		case empty:
			r.warn(name, truncate(root, name))
		}
	}
}

func (r *Report) remove(root *os.Root, name string) {
	if _, err := root.Lstat(name); err != nil {
		r.warn(name, err)
		return
	}
	if err := root.RemoveAll(name); err != nil {
		r.warn(name, err)
		return
	}
	r.Removed++
}

// contents empties a directory. A link to one is left alone: what it leads to
// has a rule of its own, or is not the build's.
func (r *Report) contents(root *os.Root, name string) {
	info, err := root.Lstat(name)
	if err != nil || !info.IsDir() {
		r.warn(name, err)
		return
	}
	entries, err := fs.ReadDir(root.FS(), name)
	r.warn(name, err)
	for _, entry := range entries {
		r.remove(root, path.Join(name, entry.Name()))
	}
}

// truncate empties a regular file and keeps its owner, mode and label.
func truncate(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// machineID makes D-Bus follow the machine id, which is empty now, where it had
// a copy of its own.
func (r *Report) machineID(root *os.Root) {
	const name = "var/lib/dbus/machine-id"
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		r.warn(name, err)
		return
	}
	if err := root.Remove(name); err != nil {
		r.warn(name, err)
		return
	}
	r.warn(name, root.Symlink("/etc/machine-id", name))
}

// interfaceFiles removes the interface files that cloud-init wrote in the manner
// of Red Hat: only their content tells them from an administrator's.
func (r *Report) interfaceFiles(root *os.Root) {
	names, err := fs.Glob(root.FS(), "etc/sysconfig/network-scripts/ifcfg-*")
	r.warn("etc/sysconfig/network-scripts", err)
	for _, name := range names {
		text, err := readBounded(root, name)
		if err == nil && strings.HasPrefix(text, "# Created by cloud-init") {
			r.remove(root, name)
		}
		r.warn(name, err)
	}
}

// maxFile bounds files that are rewritten.
const maxFile = 8 << 20

// readBounded reads a regular file.
func readBounded(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return "", fmt.Errorf("not a regular file of at most %d bytes", maxFile)
	}
	text, err := root.ReadFile(name)
	return string(text), err
}

// rewrite replaces the content of a file and keeps its owner, mode and label.
func rewrite(root *os.Root, name, text string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
