package identity

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/rbac"
)

// directoryObject is a principal as Microsoft Graph shows it.
type directoryObject struct {
	Type     string   `json:"@odata.type"`
	ID       string   `json:"id"`
	Name     string   `json:"displayName"`
	App      string   `json:"appId,omitempty"`
	AppName  string   `json:"appDisplayName,omitempty"`
	SPType   string   `json:"servicePrincipalType,omitempty"`
	SPNames  []string `json:"servicePrincipalNames,omitempty"`
	UPN      string   `json:"userPrincipalName,omitempty"`
	Mail     string   `json:"mail,omitempty"`
	Security *bool    `json:"securityEnabled,omitempty"`
}

func objectOf(p Principal) directoryObject {
	o := directoryObject{ID: p.ID, Name: p.Name}
	switch p.Kind {
	case ServicePrincipal:
		o.Type, o.App, o.AppName, o.SPNames, o.SPType = "#microsoft.graph.servicePrincipal", p.App, p.Name, []string{p.App}, "Application"
		if strings.HasPrefix(p.Origin, "/") {
			o.SPType = "ManagedIdentity"
		}
	case User:
		o.Type, o.UPN, o.Mail = "#microsoft.graph.user", p.UPN, p.UPN
	case Group:
		yes := true
		o.Type, o.Security = "#microsoft.graph.group", &yes
	}
	return o
}

// collections are the sets of directory objects with an address, by kind; "" is
// every kind.
var collections = map[string]Kind{"serviceprincipals": ServicePrincipal, "users": User, "groups": Group, "directoryobjects": ""}

// graph serves the part of Microsoft Graph that role assignments use. Whoever
// can sign in may read the directory.
func (s *Service) graph(w http.ResponseWriter, r *http.Request, parts []string) {
	caller, err := s.graphAuth.Authenticate(r.Context(), r)
	if err != nil {
		status := http.StatusInternalServerError
		if Unauthenticated(err) {
			status = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", s.Challenge())
		}
		graphError(w, status, "InvalidAuthenticationToken", err.Error())
		return
	}
	all, err := s.directory.List(r.Context())
	if err != nil {
		graphError(w, http.StatusInternalServerError, "InternalServerError", "the directory could not be read")
		return
	}
	if len(parts) == 0 {
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "there is nothing at "+r.URL.Path)
		return
	}
	name := strings.ToLower(parts[0])
	kind, known := collections[name]
	switch {
	case r.Method == http.MethodPost && name == "directoryobjects" && len(parts) == 2 && strings.EqualFold(trimNamespace(parts[1]), "getByIds"):
		s.byIDs(w, r, all)
	case r.Method != http.MethodGet:
		graphError(w, http.StatusMethodNotAllowed, "Request_BadRequest", "the directory is read here; goldsmith principal changes it")
	case name == "me" && len(parts) == 1:
		s.one(w, all, "", caller.ObjectID)
	case known && len(parts) == 1:
		filter, err := parseFilter(r.URL.Query().Get("$filter"))
		if err != nil {
			graphError(w, http.StatusBadRequest, "Request_UnsupportedQuery", err.Error())
			return
		}
		values := []directoryObject{}
		for _, p := range all {
			if (kind == "" || p.Kind == kind) && filter.matches(p) {
				values = append(values, objectOf(p))
			}
		}
		writeJSON(w, http.StatusOK, map[string]any{"@odata.context": s.cfg.BaseURL + "/v1.0/$metadata#" + parts[0], "value": values})
	case name == "groups" && len(parts) == 3 && strings.EqualFold(parts[2], "members"):
		s.members(w, r, all, parts[1])
	case known && len(parts) == 2:
		s.one(w, all, kind, parts[1])
	default:
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "there is nothing at "+r.URL.Path)
	}
}

// one answers with one object, by object id or user name.
func (s *Service) one(w http.ResponseWriter, all []Principal, kind Kind, ref string) {
	i := slices.IndexFunc(all, func(p Principal) bool {
		return (kind == "" || p.Kind == kind) && (strings.EqualFold(p.ID, ref) || p.UPN != "" && strings.EqualFold(p.UPN, ref))
	})
	if i < 0 {
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+printable(ref)+"' does not exist or one of its queried reference-property objects are not present.")
		return
	}
	writeJSON(w, http.StatusOK, objectOf(all[i]))
}

// members answers with who is in a group, not by another group.
func (s *Service) members(w http.ResponseWriter, r *http.Request, all []Principal, group string) {
	if !slices.ContainsFunc(all, func(p Principal) bool { return p.Kind == Group && strings.EqualFold(p.ID, group) }) {
		s.one(w, nil, Group, group)
		return
	}
	memberships, err := s.directory.memberships(r.Context())
	if err != nil {
		graphError(w, http.StatusInternalServerError, "InternalServerError", "the directory could not be read")
		return
	}
	values := []directoryObject{}
	for _, p := range all {
		if slices.Contains(memberships, rbac.Membership{Member: p.ID, Group: strings.ToLower(group)}) {
			values = append(values, objectOf(p))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"value": values})
}

// byIDs answers with the objects that have the ids of the body.
func (s *Service) byIDs(w http.ResponseWriter, r *http.Request, all []Principal) {
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.IDs) > 1000 {
		graphError(w, http.StatusBadRequest, "Request_BadRequest", "the body must be an object with up to 1000 ids")
		return
	}
	values := []directoryObject{}
	for _, p := range all {
		if slices.ContainsFunc(body.IDs, func(id string) bool { return strings.EqualFold(id, p.ID) }) {
			values = append(values, objectOf(p))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"value": values})
}

// trimNamespace is the name of an action without its namespace.
func trimNamespace(action string) string { return strings.TrimPrefix(action, "microsoft.graph.") }

func graphError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}

// objectFilter is a $filter of the directory: all of its terms must hold.
type objectFilter []filterTerm

type filterTerm struct{ field, value string }

func (f objectFilter) matches(p Principal) bool {
	for _, t := range f {
		var have []string
		switch t.field {
		case "serviceprincipalnames", "appid":
			have = []string{p.App}
		case "userprincipalname", "mail":
			have = []string{p.UPN}
		case "displayname":
			have = []string{p.Name}
		case "id":
			have = []string{p.ID}
		}
		if !slices.ContainsFunc(have, func(h string) bool { return h != "" && strings.EqualFold(h, t.value) }) {
			return false
		}
	}
	return true
}

// parseFilter reads the filters that clients of role assignments send:
// "field eq 'x'" and "servicePrincipalNames/any(c:c eq 'x')", joined by and.
func parseFilter(s string) (objectFilter, error) {
	var f objectFilter
	rest := strings.TrimSpace(s)
	for rest != "" {
		field, after, ok := cutFilter(rest, " eq '")
		if !ok {
			return nil, arm.Errorf(arm.CodeValidationFailed, "the filter %.100q is not one that this directory knows", s)
		}
		lambda := strings.EqualFold(field, "servicePrincipalNames/any(c:c")
		if lambda {
			field = "servicePrincipalNames"
		}
		value, tail, ok := quoted(after)
		if ok && lambda {
			tail, ok = strings.CutPrefix(tail, ")")
		}
		field = strings.ToLower(strings.TrimSpace(field))
		if !ok || !slices.Contains([]string{"serviceprincipalnames", "appid", "userprincipalname", "mail", "displayname", "id"}, field) {
			return nil, arm.Errorf(arm.CodeValidationFailed, "the filter %.100q is not one that this directory knows", s)
		}
		f = append(f, filterTerm{field, value})
		if rest = strings.TrimSpace(tail); rest == "" {
			break
		}
		if rest, ok = strings.CutPrefix(rest, "and "); !ok {
			return nil, arm.Errorf(arm.CodeValidationFailed, "the filter %.100q is not one that this directory knows", s)
		}
		rest = strings.TrimSpace(rest)
	}
	return f, nil
}

// cutFilter is strings.Cut, but finds sep in any case.
func cutFilter(s, sep string) (before, after string, found bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sep)], sep) {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

// quoted reads a string up to its closing quote; two quotes stand for one.
func quoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}
