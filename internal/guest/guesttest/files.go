package guesttest

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/pkg/sftp"
)

// files serves a directory as the root of a file system; no path leads out of it.
type files struct{ root *os.Root }

// local is a request's path below the root.
func local(name string) string {
	if name = strings.Trim(name, "/"); name == "" {
		return "."
	}
	return name
}

// Fileread opens a file for reading.
func (f files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return f.root.Open(local(r.Filepath))
}

// Filewrite opens a file for writing.
func (f files) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	want := r.Pflags()
	flags := os.O_WRONLY
	if want.Creat {
		flags |= os.O_CREATE
	}
	if want.Trunc {
		flags |= os.O_TRUNC
	}
	if want.Excl {
		flags |= os.O_EXCL
	}
	return f.root.OpenFile(local(r.Filepath), flags, 0o644)
}

// Filecmd changes names and attributes.
func (f files) Filecmd(r *sftp.Request) error {
	name := local(r.Filepath)
	switch r.Method {
	case "Setstat":
		flags := r.AttrFlags()
		var err error
		if flags.Permissions {
			err = f.root.Chmod(name, r.Attributes().FileMode().Perm())
		}
		if flags.Size {
			file, e := f.root.OpenFile(name, os.O_WRONLY, 0)
			if e != nil {
				return errors.Join(err, e)
			}
			err = errors.Join(err, file.Truncate(int64(r.Attributes().Size)), file.Close())
		}
		return err
	case "Remove", "Rmdir":
		return f.root.Remove(name)
	case "Mkdir":
		return f.root.Mkdir(name, 0o755)
	case "Rename":
		return f.root.Rename(name, local(r.Target))
	}
	return sftp.ErrSSHFxOpUnsupported
}

// Filelist answers questions about a file or a directory.
func (f files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch r.Method {
	case "Stat":
		info, err := f.root.Stat(local(r.Filepath))
		return list{info}, err
	case "List":
		dir, err := f.root.Open(local(r.Filepath))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		infos, err := dir.Readdir(-1)
		return list(infos), err
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

// Lstat describes a name without following it.
func (f files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := f.root.Lstat(local(r.Filepath))
	return list{info}, err
}

// list is a listing that is all there.
type list []os.FileInfo

// ListAt copies from an offset on.
func (l list) ListAt(to []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[offset:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}
