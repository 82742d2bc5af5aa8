package recipe

import (
	"archive/tar"
	"io"
	"path"
	"strings"
	"time"
)

// file is a file of the image that no package brings. It belongs to root.
type file struct {
	name string // absolute
	mode int64
	text string
	link string // target of a symbolic link, instead of text
}

// scriptPath is where the recipe's script lies while it runs.
const scriptPath = "/.recipe.sh"

// writeTar writes files as a tar archive. Directories are not part of it: tar
// makes those that do not exist and leaves the others as they are.
func writeTar(w io.Writer, files []file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{
			Name:     strings.TrimPrefix(path.Clean(f.name), "/"),
			Mode:     f.mode,
			ModTime:  time.Unix(epoch, 0).UTC(),
			Typeflag: tar.TypeReg,
			Size:     int64(len(f.text)),
		}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.link, 0
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, f.text[:h.Size]); err != nil {
			return err
		}
	}
	return t.Close()
}
