package guest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"path"
	"strings"

	"goldsmith/internal/arm"
)

// maxInline is the largest content, in bytes, that travels in a command line.
// Encoded it stays below what one SSH packet holds (RFC 4253, section 6.1).
const maxInline = 16 << 10

// WriteFile puts a small script or file at dest, which replaces what is there.
// A short one travels in a command line: starting a file transfer takes an
// emulated guest a second more.
func WriteFile(ctx context.Context, s Session, content []byte, dest string, mode uint32) error {
	if len(content) > maxInline {
		return s.Upload(ctx, bytes.NewReader(content), path.Base(dest), dest, mode)
	}
	quoted := "'" + strings.ReplaceAll(dest, "'", `'\''`) + "'"
	command := fmt.Sprintf("printf %%s %s | base64 -d >%s && chmod %04o %s",
		base64.StdEncoding.EncodeToString(content), quoted, mode&0o777, quoted)
	var stderr bytes.Buffer
	exit, err := s.Run(ctx, command, io.Discard, &stderr)
	if err != nil {
		return err
	}
	if exit != 0 {
		return arm.Errorf(arm.CodeStepFailed, "%s cannot be written in the guest: %s", dest, strings.TrimSpace(stderr.String())).At(dest)
	}
	return nil
}
