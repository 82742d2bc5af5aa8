package blobapi

import (
	"net/http"
	"net/url"
)

// operation is one of the service's: who may do it, and how it is done.
type operation struct {
	need need
	run  func(*call) error
}

// levels of the tree that an operation can be about.
const (
	levelAccount   = "account"
	levelContainer = "container"
	levelBlob      = "blob"
)

func (t target) level() string {
	switch {
	case t.container == "":
		return levelAccount
	case t.blob == "":
		return levelContainer
	}
	return levelBlob
}

// route tells operations apart.
type route struct{ level, method, restype, comp string }

var (
	readBlob   = need{letters: "r", kind: 'o', action: actionsBlob + "read", data: true, public: true}
	writeBlob  = need{letters: "wc", kind: 'o', action: actionsBlob + "write", data: true, create: true}
	changeBlob = need{letters: "w", kind: 'o', action: actionsBlob + "write", data: true}
	deleteBlob = need{letters: "d", kind: 'o', action: actionsBlob + "delete", data: true}
	listBlobs  = need{letters: "l", kind: 'c', action: actionsBlob + "read", data: true, public: true}

	// A signature for a container cannot name its container's own operations, so
	// that only account signatures have these.
	readContainer   = need{letters: "r", kind: 'c', action: actionsContainer + "read", public: true}
	writeContainer  = need{letters: "w", kind: 'c', action: actionsContainer + "write"}
	makeContainer   = need{letters: "wc", kind: 'c', action: actionsContainer + "write"}
	deleteContainer = need{letters: "d", kind: 'c', action: actionsContainer + "delete"}
	getACL          = need{letters: "", kind: 'c', action: actionsContainer + "getAcl/action"}
	setACL          = need{letters: "", kind: 'c', action: actionsContainer + "setAcl/action"}

	listContainers = need{letters: "l", kind: 's', action: actionsContainer + "read"}
	readService    = need{letters: "r", kind: 's', action: actionsService + "read"}
	readAccount    = need{letters: "rwdlacup", kind: 's', action: actionsService + "getInfo/action"}
	delegationKey  = need{letters: "", kind: 's', action: actionsService + "generateUserDelegationKey/action"}
)

var routes map[route]operation

func init() { // the operations refer to routes in turn
	routes = map[route]operation{
		{levelAccount, "GET", "", "list"}:                      {listContainers, (*call).listContainers},
		{levelAccount, "GET", "service", "properties"}:         {readService, (*call).serviceProperties},
		{levelAccount, "POST", "service", "userdelegationkey"}: {delegationKey, (*call).delegationKey},
		{levelContainer, "PUT", "container", ""}:               {makeContainer, (*call).createContainer},
		{levelContainer, "GET", "container", ""}:               {readContainer, (*call).containerProperties},
		{levelContainer, "DELETE", "container", ""}:            {deleteContainer, (*call).deleteContainer},
		{levelContainer, "GET", "container", "list"}:           {listBlobs, (*call).listBlobs},
		{levelContainer, "GET", "container", "metadata"}:       {readContainer, (*call).containerProperties},
		{levelContainer, "PUT", "container", "metadata"}:       {writeContainer, (*call).setContainerMetadata},
		{levelContainer, "GET", "container", "acl"}:            {getACL, (*call).containerACL},
		{levelContainer, "PUT", "container", "acl"}:            {setACL, (*call).setContainerACL},
		{levelBlob, "GET", "", ""}:                             {readBlob, (*call).getBlob},
		{levelBlob, "HEAD", "", ""}:                            {readBlob, (*call).headBlob},
		{levelBlob, "PUT", "", ""}:                             {writeBlob, (*call).putBlob},
		{levelBlob, "DELETE", "", ""}:                          {deleteBlob, (*call).deleteBlob},
		{levelBlob, "GET", "", "metadata"}:                     {readBlob, (*call).getMetadata},
		{levelBlob, "PUT", "", "metadata"}:                     {changeBlob, (*call).setMetadata},
		{levelBlob, "PUT", "", "properties"}:                   {changeBlob, (*call).setProperties},
		{levelBlob, "PUT", "", "block"}:                        {writeBlob, (*call).putBlock},
		{levelBlob, "PUT", "", "blocklist"}:                    {writeBlob, (*call).putBlockList},
		{levelBlob, "GET", "", "blocklist"}:                    {readBlob, (*call).getBlockList},
	}
	for _, level := range []string{levelAccount, levelContainer, levelBlob} {
		routes[route{level, "GET", "account", "properties"}] = operation{readAccount, (*call).accountProperties}
	}
}

// operationOf finds the operation of a request. A HEAD is answered like a GET.
func operationOf(method string, t target, q url.Values, h http.Header) (operation, error) {
	key := route{t.level(), method, q.Get("restype"), q.Get("comp")}
	if key.method == http.MethodHead && key != (route{levelBlob, http.MethodHead, "", ""}) {
		key.method = http.MethodGet
	}
	op, ok := routes[key]
	if !ok {
		for _, m := range []string{"GET", "PUT", "POST", "DELETE"} {
			if _, other := routes[route{key.level, m, key.restype, key.comp}]; other {
				return operation{}, fail(codeUnsupportedVerb, "%s with restype=%.20q and comp=%.20q", method, key.restype, key.comp)
			}
		}
		return operation{}, fail(codeNotImplemented, "%s of the %s with restype=%.20q and comp=%.20q", method, key.level, key.restype, key.comp)
	}
	for _, name := range []string{"snapshot", "versionid"} {
		if q.Get(name) != "" {
			return operation{}, fail(codeInvalidQuery, "there are no snapshots and versions of blobs")
		}
	}
	if h.Get("x-ms-encryption-key") != "" || h.Get("x-ms-structured-body") != "" {
		return operation{}, fail(codeUnsupportedHeader, "encryption keys of the client and structured bodies are not supported")
	}
	if h.Get("x-ms-lease-id") != "" {
		return operation{}, fail(codeLeaseNotPresent, "leases are not supported")
	}
	return op, nil
}
