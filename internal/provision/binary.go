package provision

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"io/fs"

	"goldsmith/internal/arm"
)

//go:generate go run ./genhelper -o bin/helper-linux-amd64.gz goldsmith/cmd/goldsmith-helper

//go:embed bin
var bin embed.FS

// helperFile is the compressed helper in bin.
const helperFile = "bin/helper-linux-amd64.gz"

// maxHelper bounds the unpacked helper in bytes.
const maxHelper = 32 << 20

// HelperBinary is the guest helper, an ELF program for x86-64. It fails when this
// program was built without it.
func HelperBinary() ([]byte, error) { return unpackHelper(bin) }

// packedHelper is the helper as it was built in.
func packedHelper(files fs.FS) ([]byte, error) {
	packed, err := fs.ReadFile(files, helperFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, arm.Errorf(arm.CodeInternal, "this binary was built without the guest helper: build it with make")
	}
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "cannot read the guest helper: %w", err)
	}
	return packed, nil
}

func unpackHelper(files fs.FS) ([]byte, error) {
	packed, err := packedHelper(files)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "the guest helper in this binary is damaged: build it again with make: %w", err)
	}
	program, err := io.ReadAll(io.LimitReader(z, maxHelper+1))
	if err != nil || len(program) > maxHelper || !bytes.HasPrefix(program, []byte("\x7fELF")) {
		return nil, arm.Errorf(arm.CodeInternal, "the guest helper in this binary is damaged: build it again with make")
	}
	return program, nil
}
