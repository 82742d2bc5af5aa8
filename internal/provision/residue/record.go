package residue

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
)

// Record is what the builder found before it changed anything, kept in the guest
// so that it survives reboots and restores.
type Record struct {
	// ResolvConf is /etc/resolv.conf.
	ResolvConf Saved `json:"resolvConf"`
	// Mirrors are in force: prefixes of package archives and their replacements.
	Mirrors map[string]string `json:"mirrors,omitempty"`
}

// Saved is a file as it was: absent, a link, or a small regular file.
type Saved struct {
	Link    string      `json:"link,omitempty"`
	Content []byte      `json:"content,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"` // of a regular file; 0 means none
}

// recordFile is the Record in the guest.
const recordFile = RecordDir + "/record.json"

// Save remembers one file.
func Save(root *os.Root, name string) (Saved, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Saved{}, nil
	}
	if err != nil {
		return Saved{}, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		link, err := root.Readlink(name)
		return Saved{Link: link}, err
	}
	text, err := readBounded(root, name)
	return Saved{Content: []byte(text), Mode: info.Mode().Perm()}, err
}

// restore puts a file back as it was.
func (s Saved) restore(root *os.Root, name string) error {
	now, err := Save(root, name)
	if err == nil && now.Link == s.Link && now.Mode == s.Mode && string(now.Content) == string(s.Content) {
		return nil
	}
	if s.Mode != 0 && err == nil && now.Mode != 0 {
		return rewrite(root, name, string(s.Content))
	}
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	switch {
	case s.Link != "":
		return root.Symlink(s.Link, name)
	case s.Mode != 0:
		return errors.Join(root.WriteFile(name, s.Content, s.Mode), root.Chmod(name, s.Mode))
	}
	return nil
}

// ReadRecord reads the guest's record.
func ReadRecord(root *os.Root) (Record, error) {
	text, err := readBounded(root, recordFile)
	if err != nil {
		return Record{}, err
	}
	var r Record
	return r, json.Unmarshal([]byte(text), &r)
}

// Write keeps the record in the guest.
func (r Record) Write(root *os.Root) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(path.Dir(recordFile), 0o700); err != nil {
		return err
	}
	return root.WriteFile(recordFile, text, 0o600)
}
