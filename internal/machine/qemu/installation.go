package qemu

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"goldsmith/internal/arm"
)

// program is QEMU for the only architecture that images are made for.
const program = "qemu-system-x86_64"

// firmwares are where distributions keep the UEFI firmware, code and template of
// the variables: Debian and Ubuntu, Fedora and its relatives, Arch. All are of
// the same kind: 4 MiB without Secure Boot where there is a choice.
var firmwares = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
}

// Installation is what of QEMU is on this host. All paths are absolute.
type Installation struct {
	QEMU string // the program
	Code string // UEFI firmware; "" where it is not installed
	Vars string // template of its variables
}

// Find completes given, whose empty fields are looked for in the usual places.
// The error is CodeMissingTool: QEMU is not installed, or a given file is not
// there. Firmware that is missing is not an error before a machine needs it.
func Find(given Installation) (Installation, error) {
	found := given
	if found.QEMU == "" {
		found.QEMU = program
	}
	path, err := exec.LookPath(found.QEMU)
	if err != nil {
		return Installation{}, arm.Errorf(arm.CodeMissingTool,
			"%s is not installed: install the package qemu-system-x86 (%w)", found.QEMU, err)
	}
	if found.QEMU, err = filepath.Abs(path); err != nil {
		return Installation{}, arm.Errorf(arm.CodeMissingTool, "path of %s: %w", path, err)
	}
	if (given.Code == "") != (given.Vars == "") {
		return Installation{}, arm.Errorf(arm.CodeMissingTool,
			"UEFI firmware needs both its code (%q) and the template of its variables (%q)", given.Code, given.Vars)
	}
	if given.Code != "" {
		return found, readable(given.Code, given.Vars)
	}
	for _, f := range firmwares {
		if readable(f[0], f[1]) == nil {
			found.Code, found.Vars = f[0], f[1]
			break
		}
	}
	return found, nil
}

// readable fails unless all files exist.
func readable(files ...string) error {
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return arm.Errorf(arm.CodeMissingTool, "UEFI firmware is missing: install the package ovmf (%w)", err)
		}
	}
	return nil
}

// createVars makes a machine's own copy of the UEFI variables at path, unless
// there is one.
func (i Installation) createVars(path string) error {
	if i.Code == "" {
		return arm.Errorf(arm.CodeMissingTool, "no UEFI firmware is installed: install the package ovmf")
	}
	content, err := os.ReadFile(i.Vars)
	if err != nil {
		return arm.Errorf(arm.CodeMissingTool, "the template of the UEFI variables: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}
