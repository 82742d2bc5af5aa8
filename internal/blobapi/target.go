package blobapi

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"goldsmith/internal/blob"
)

// target is what a request is about.
type target struct {
	account   string
	container string // "" for the account
	blob      string // "" for the container
	endpoint  string // where the account begins, with a slash at the end
	path      string // of the URL, as it was sent
}

// reserved are first segments of paths that the service's other surfaces have; no
// account is reached by them in a path.
var reserved = map[string]bool{
	"subscriptions": true, "providers": true, "metadata": true, "tenants": true, "adfs": true, "graph": true, "common": true, "organizations": true,
	"portal": true, "batch": true, "discovery": true, "healthz": true, "readyz": true, "metrics": true,
}

// Owns reports whether a request is for a storage account: its host is
// ACCOUNT.blob.SUFFIX, or its path begins with the name of an account.
func (h *Handler) Owns(r *http.Request) bool {
	if _, ok := h.hostAccount(r.Host); ok {
		return true
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if reserved[name] {
		return false
	}
	ok, err := h.cfg.Blobs.HasAccount(r.Context(), name)
	return ok && err == nil
}

// hostAccount is the account that a host names.
func (h *Handler) hostAccount(host string) (string, bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.CutSuffix(strings.ToLower(host), ".blob."+h.cfg.Suffix)
}

// locate reads what the URL at host is about.
func (h *Handler) locate(host string, u *url.URL) (target, error) {
	t := target{path: u.EscapedPath(), endpoint: "https://" + host + "/"}
	rest := strings.TrimPrefix(t.path, "/")
	name, ok := h.hostAccount(host)
	if !ok {
		name, rest, _ = strings.Cut(rest, "/")
		t.endpoint += name + "/"
	}
	if err := blob.CheckAccount(name); err != nil {
		return target{}, fail(codeInvalidURI, "%v", err)
	}
	t.account = name
	container, blobName, _ := strings.Cut(rest, "/")
	var err error
	if t.container, err = url.PathUnescape(container); err != nil {
		return target{}, fail(codeInvalidURI, "the path does not parse")
	}
	if t.container == "" {
		if blobName != "" {
			return target{}, fail(codeInvalidURI, "the path names no container")
		}
		return t, nil
	}
	if err := blob.CheckContainer(t.container); err != nil {
		return target{}, fail(codeInvalidName, "%v", err)
	}
	// Clients encode the slashes of a name or do not: both are the same blob, and
	// the name is judged as it reads decoded.
	if t.blob, err = url.PathUnescape(blobName); err != nil {
		return target{}, fail(codeInvalidURI, "the path does not parse")
	}
	if t.blob == "" {
		return t, nil
	}
	if err := (blob.Name{Account: t.account, Container: t.container, Blob: t.blob}).Check(); err != nil {
		return target{}, fail(codeInvalidName, "%v", err)
	}
	return t, nil
}
