package signature

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob/account"
)

// Kind says who vouches for a shared access signature.
type Kind int

// Kinds of shared access signatures.
const (
	AccountSAS    Kind = iota + 1 // an account key, for the whole account
	ServiceSAS                    // an account key, for one container or blob
	DelegationSAS                 // a user, for one container or blob
)

// String is how people call the kind.
func (k Kind) String() string {
	switch k {
	case AccountSAS:
		return "account SAS"
	case ServiceSAS:
		return "service SAS"
	case DelegationSAS:
		return "user delegation SAS"
	}
	return "no SAS"
}

// Resource is what a request touches.
type Resource struct {
	Account   string
	Container string // "" for the account itself
	Blob      string // "" for the container itself
}

// Policy is a stored access policy of a container.
type Policy struct {
	Start, Expiry time.Time // zero when not said
	Permission    string
}

// Verifier knows what signatures are checked against.
type Verifier struct {
	Secrets account.Secrets
	// SharedKey says whether account keys may sign at all.
	SharedKey bool
	// Policy finds a stored access policy of the resource's container by its name;
	// ok is false when there is none.
	Policy func(name string) (p Policy, ok bool)
	Now    time.Time
	Client netip.Addr // who asks; invalid when not known
	TLS    bool       // whether the request came over TLS
}

// Grant is what a valid signature allows.
type Grant struct {
	Kind Kind
	// Key is the name of the account key that it is signed with, "" for a
	// DelegationSAS.
	Key        string
	Permission string // letters
	// ResourceTypes of an AccountSAS: letters of s, c and o.
	ResourceTypes string
	// ObjectID of the user who vouches for a DelegationSAS, and must have the
	// rights too.
	ObjectID, TenantID string
	// Response headers that the signature sets, by name.
	Override map[string]string
}

// Allows reports whether the grant has one of the permission letters, for a
// resource of the type 's', 'c' or 'o'.
func (g Grant) Allows(letters string, kind byte) error {
	if g.Kind == AccountSAS && strings.IndexByte(g.ResourceTypes, kind) < 0 {
		return arm.Errorf(CodeResourceTypeMismatch, "the signature is for the resource types %q and not for %q", g.ResourceTypes, kind)
	}
	if !strings.ContainsAny(g.Permission, letters) {
		return arm.Errorf(CodePermissionMismatch, "the signature has the permissions %q and not %q", g.Permission, letters)
	}
	return nil
}

// IsSAS reports whether a query carries a shared access signature.
func IsSAS(q url.Values) bool { return q.Has("sig") }

// parameters are all that a signature may consist of.
var parameters = []string{
	"sv", "sr", "st", "se", "sp", "si", "sip", "spr", "sig", "ss", "srt", "ses", "skoid", "sktid", "skt", "ske", "sks", "skv",
	"saoid", "suoid", "scid", "sdd", "snapshot", "rscc", "rscd", "rsce", "rscl", "rsct", "sduoid", "skdutid", "srh", "srq",
}

// overrides are the parameters that set response headers.
var overrides = map[string]string{
	"rscc": "Cache-Control", "rscd": "Content-Disposition", "rsce": "Content-Encoding", "rscl": "Content-Language", "rsct": "Content-Type",
}

// StripSAS removes a signature from a query.
func StripSAS(q url.Values) {
	for _, p := range parameters {
		q.Del(p)
	}
}

// Oldest versions that are understood.
const (
	oldestVersion    = "2015-04-05"
	snapshotVersion  = "2018-11-09" // signs the kind of resource and a snapshot
	delegatedVersion = "2020-02-10" // of user delegation
	scopeVersion     = "2020-12-06" // signs an encryption scope
	tenantVersion    = "2025-07-05" // signs a delegated user's tenant and id
)

// Verify checks the signature in q for a request that touches what. Errors have
// the codes of this package; CodeAuthenticationFailed says what is wrong.
func (v Verifier) Verify(q url.Values, what Resource) (Grant, error) {
	s := sas{Values: q}
	for _, name := range parameters {
		if len(q[name]) > 1 {
			return Grant{}, failed("the signature has the parameter %s twice", name)
		}
		if strings.ContainsAny(q.Get(name), "\r\n\x00") {
			return Grant{}, failed("the parameter %s holds a control character", name)
		}
	}
	version := s.Get("sv")
	if _, err := time.Parse(time.DateOnly, version); err != nil || version < oldestVersion {
		return Grant{}, failed("the version sv=%.20q of the signature is not one from %s on", version, oldestVersion)
	}
	for _, name := range []string{"sduoid", "skdutid", "srh", "srq", "sdd"} {
		if s.Get(name) != "" {
			return Grant{}, failed("signatures with the parameter %s are not supported", name)
		}
	}
	g := Grant{Permission: s.Get("sp"), Override: map[string]string{}}
	for name, header := range overrides {
		if value := s.Get(name); value != "" {
			g.Override[header] = value
		}
	}
	var err error
	if s.Has("ss") || s.Has("srt") {
		g.Kind, g.ResourceTypes = AccountSAS, s.Get("srt")
		err = v.account(s, what, &g)
	} else {
		g.Kind = ServiceSAS
		if s.Has("skoid") {
			g.Kind, g.ObjectID, g.TenantID = DelegationSAS, s.Get("skoid"), s.Get("sktid")
		}
		err = v.service(s, what, &g)
	}
	if err != nil {
		return Grant{}, err
	}
	return g, v.conditions(s)
}

func failed(format string, args ...any) error {
	return arm.Errorf(CodeAuthenticationFailed, format, args...)
}

// sas is a signature's parameters.
type sas struct{ url.Values }

func (s sas) list(names ...string) []string {
	var out []string
	for _, name := range names {
		out = append(out, s.Get(name))
	}
	return out
}

func (v Verifier) keys() [][]byte {
	var keys [][]byte
	for _, k := range v.Secrets.Keys {
		keys = append(keys, k.Value)
	}
	return keys
}

// keyName is the name of the account key at an index of keys.
func (v Verifier) keyName(i int) string { return v.Secrets.Keys[i].Name }

func (v Verifier) account(s sas, what Resource, g *Grant) error {
	fields := append([]string{what.Account}, s.list("sp", "ss", "srt", "st", "se", "sip", "spr", "sv")...)
	if s.Get("sv") >= scopeVersion {
		fields = append(fields, s.Get("ses"))
	}
	if !v.SharedKey {
		return failed("the account does not allow signatures with its keys")
	}
	key := signedWith(s.Get("sig"), v.keys(), []string{strings.Join(fields, "\n") + "\n"})
	switch {
	case key < 0:
		return failed("the signature does not match")
	case s.Get("sp") == "" || s.Get("se") == "":
		return failed("an account signature needs sp and se")
	case !strings.Contains(s.Get("ss"), "b"):
		return arm.Errorf(CodeServiceMismatch, "the signature is for the services %q and not for blobs", s.Get("ss"))
	}
	g.Key = v.keyName(key)
	return nil
}

func (v Verifier) service(s sas, what Resource, g *Grant) error {
	name := "/blob/" + what.Account + "/" + what.Container
	switch s.Get("sr") {
	case "c":
	case "b":
		name += "/" + what.Blob
	default:
		return failed("signatures with sr=%.10q are not supported; use b or c", s.Get("sr"))
	}
	if what.Container == "" || s.Get("sr") == "b" && what.Blob == "" {
		return arm.Errorf(CodeResourceTypeMismatch, "the signature is for a container or blob")
	}
	if s.Get("snapshot") != "" {
		return failed("there are no snapshots")
	}
	keys, fields := v.keys(), append(s.list("sp", "st", "se"), name)
	version := s.Get("sv")
	if g.Kind == DelegationSAS {
		if version < delegatedVersion {
			return failed("user delegation signatures are understood from version %s on", delegatedVersion)
		}
		key, err := v.delegated(s)
		if err != nil {
			return err
		}
		keys, fields = [][]byte{key}, append(fields, s.list("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid")...)
		if version >= tenantVersion {
			fields = append(fields, "", "")
		}
	} else {
		if !v.SharedKey {
			return failed("the account does not allow signatures with its keys")
		}
		fields = append(fields, s.Get("si"))
	}
	fields = append(fields, s.list("sip", "spr", "sv")...)
	if version >= snapshotVersion {
		fields = append(fields, s.Get("sr"), "")
	}
	if version >= scopeVersion {
		fields = append(fields, s.Get("ses"))
	}
	tail := s.list("rscc", "rscd", "rsce", "rscl", "rsct")
	texts := []string{strings.Join(slices.Concat(fields, tail), "\n")}
	if g.Kind == DelegationSAS && version >= tenantVersion {
		// From some version in between on, signed headers and parameters follow, of
		// which there are none.
		texts = append(texts, strings.Join(slices.Concat(fields, []string{"", ""}, tail), "\n"))
	}
	key := signedWith(s.Get("sig"), keys, texts)
	if key < 0 {
		return failed("the signature does not match: it is for another resource, made with another key, or changed")
	}
	if g.Kind == ServiceSAS {
		g.Key = v.keyName(key)
	}
	return v.policy(s, g)
}

// policy completes a signature with the stored access policy that it names.
func (v Verifier) policy(s sas, g *Grant) error {
	var p Policy
	if name := s.Get("si"); name != "" {
		if g.Kind != ServiceSAS {
			return failed("only a service signature can name a stored access policy")
		}
		ok := false
		if v.Policy != nil {
			p, ok = v.Policy(name)
		}
		if !ok {
			return failed("the container has no stored access policy %.64q", name)
		}
	}
	if s.Get("sp") != "" && p.Permission != "" || s.Get("se") != "" && !p.Expiry.IsZero() {
		return failed("the signature and its stored access policy both say sp or se")
	}
	g.Permission += p.Permission
	switch {
	case !p.Start.IsZero() && v.Now.Before(p.Start), !p.Expiry.IsZero() && !v.Now.Before(p.Expiry):
		return failed("the stored access policy is not valid now")
	case s.Get("se") == "" && p.Expiry.IsZero(), g.Permission == "":
		return failed("neither the signature nor a stored access policy says both sp and se")
	}
	return nil
}

// conditions are those that hold for every kind.
func (v Verifier) conditions(s sas) error {
	for _, name := range []string{"st", "se"} {
		text := s.Get(name)
		if text == "" {
			continue
		}
		t, err := ParseTime(text)
		switch {
		case err != nil:
			return failed("the time %s=%.40q is not one", name, text)
		case name == "st" && v.Now.Before(t):
			return failed("signature not valid in the specified time frame: Start [%s] - Current [%s]", wireTime(t), wireTime(v.Now))
		case name == "se" && !v.Now.Before(t):
			return failed("signature not valid in the specified time frame: Expiry [%s] - Current [%s]", wireTime(t), wireTime(v.Now))
		}
	}
	if s.Get("spr") == "https" && !v.TLS {
		return arm.Errorf(CodeProtocolMismatch, "the signature is for https only")
	}
	if sip := s.Get("sip"); sip != "" && !within(v.Client, sip) {
		return arm.Errorf(CodeSourceIPMismatch, "the signature is for requests from %.40s and this one is from %v", sip, v.Client)
	}
	return nil
}

// within reports whether a is the address of text or within its range "A-B".
func within(a netip.Addr, text string) bool {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	a = a.Unmap()
	return err1 == nil && err2 == nil && a.IsValid() && a.BitLen() == from.BitLen() && from.Compare(a) <= 0 && a.Compare(to) <= 0
}

// timeForms are what signatures may say the time in, always in UTC.
var timeForms = []string{"2006-01-02T15:04:05.9999999Z", "2006-01-02T15:04:05Z", "2006-01-02T15:04Z", "2006-01-02"}

// ParseTime reads a time of a signature or an access policy.
func ParseTime(text string) (time.Time, error) {
	var err error
	for _, form := range timeForms {
		var t time.Time
		if t, err = time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

func wireTime(t time.Time) string { return t.UTC().Format(time.RFC1123) }
