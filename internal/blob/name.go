// Package blob keeps storage accounts: containers of blobs in a directory or in
// memory, under the names of Azure's Blob service. A blob may also be a reference
// to an image that is rendered when it is read.
package blob

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/arm"
)

// Name names a blob.
type Name struct {
	Account   string
	Container string
	Blob      string // may hold slashes
}

// DefaultSuffix is the public cloud's, which templates and clients expect.
const DefaultSuffix = "core.windows.net"

const maxBlobName = 1024 // characters, as in the Blob service

var (
	accountPattern   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	containerPattern = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
)

// CheckAccount says why a storage account cannot have this name: 3 to 24
// lower-case letters and digits. The error is CodeValidationFailed.
func CheckAccount(account string) error {
	if !accountPattern.MatchString(account) {
		return arm.Errorf(arm.CodeValidationFailed, "%.60q is not a storage account name: use 3 to 24 lower-case letters and digits", account)
	}
	return nil
}

// CheckContainer says why a container cannot have this name: 3 to 63 lower-case
// letters, digits and single hyphens between them. The error is
// CodeValidationFailed.
func CheckContainer(container string) error {
	if len(container) < 3 || len(container) > 63 || !containerPattern.MatchString(container) {
		return arm.Errorf(arm.CodeValidationFailed, "%.80q is not a container name: use 3 to 63 lower-case letters, digits and single hyphens", container)
	}
	return nil
}

// Check says why the name cannot be used: its parts break a rule of the Blob
// service, or the blob's name could be taken for another path. The error is
// CodeValidationFailed.
func (n Name) Check() error {
	if err := CheckAccount(n.Account); err != nil {
		return err
	}
	if err := CheckContainer(n.Container); err != nil {
		return err
	}
	bad := func(why string) error {
		return arm.Errorf(arm.CodeValidationFailed, "%.80q is not a blob name: %s", n.Blob, why)
	}
	switch {
	case n.Blob == "":
		return bad("it is empty")
	case !utf8.ValidString(n.Blob):
		return bad("it is not UTF-8")
	case utf8.RuneCountInString(n.Blob) > maxBlobName:
		return bad("it is longer than 1024 characters")
	case strings.ContainsFunc(n.Blob, unicode.IsControl) || strings.Contains(n.Blob, `\`):
		return bad("it holds a control character or a backslash")
	case path.Clean("/"+n.Blob) != "/"+n.Blob:
		return bad("it starts or ends with a slash, or has an empty, \".\" or \"..\" segment")
	}
	return nil
}

// URI is the blob's address under a cloud's suffix.
func (n Name) URI(suffix string) string {
	u := url.URL{Scheme: "https", Host: n.Account + ".blob." + suffix, Path: "/" + n.Container + "/" + n.Blob}
	return u.String()
}

// ParseURI reads the address of a blob under suffix. A query (a signature) is
// not part of the name. Encoded slashes, backslashes and dots are refused: they
// mean different things to different readers. The error is CodeValidationFailed.
func ParseURI(suffix, uri string) (Name, error) {
	bad := func(why string) (Name, error) {
		// The query stays out of the message: it may be a secret.
		shown, _, _ := strings.Cut(uri, "?")
		return Name{}, arm.Errorf(arm.CodeValidationFailed, "%.200q is not the address of a blob: %s", shown, why)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return bad("it does not parse")
	}
	account, ok := strings.CutSuffix(strings.ToLower(u.Host), ".blob."+strings.ToLower(suffix))
	switch {
	case u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return bad("it must be https://ACCOUNT.blob." + suffix + "/CONTAINER/BLOB")
	case !ok:
		return bad("its host is not ACCOUNT.blob." + suffix)
	}
	escaped := strings.ToLower(u.EscapedPath())
	for _, code := range []string{"%2f", "%5c", "%2e", "%00"} {
		if strings.Contains(escaped, code) {
			return bad("it holds an encoded " + code)
		}
	}
	container, blob, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	n := Name{Account: account, Container: container, Blob: blob}
	if err := n.Check(); err != nil {
		return Name{}, err
	}
	return n, nil
}
