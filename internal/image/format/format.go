// Package format knows the disk image formats: their names, their file
// extensions, and how to tell from a file of unknown origin what it is and
// whether it may be opened at all.
package format

import (
	"path/filepath"
	"strings"

	"goldsmith/internal/arm"
)

// Format is a disk image format.
type Format string

// The formats that images come and go in.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VHD   Format = "vhd"
	VHDX  Format = "vhdx"
	VMDK  Format = "vmdk"
)

// extensions in the order they are listed to people.
var extensions = []struct {
	extension string
	format    Format
}{
	{".vhd", VHD}, {".vhdx", VHDX}, {".qcow2", QCOW2}, {".vmdk", VMDK}, {".raw", Raw}, {".img", Raw},
}

// Of is the format that the extension of path stands for, in any case. Another
// extension is an arm.Error CodeUsage.
func Of(path string) (Format, error) {
	ext := strings.ToLower(filepath.Ext(path))
	var known []string
	for _, e := range extensions {
		if ext == e.extension {
			return e.format, nil
		}
		known = append(known, e.extension)
	}
	return "", arm.Errorf(arm.CodeUsage, "the file's format is told by its extension, and %q is none of %s", ext, strings.Join(known, ", ")).At(path)
}

// Driver is the name QEMU's tools have for the format.
func (f Format) Driver() string {
	if f == VHD {
		return "vpc"
	}
	return string(f)
}
