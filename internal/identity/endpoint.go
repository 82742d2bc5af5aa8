package identity

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// oauthError is an error of the token endpoint in Entra ID's form.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Codes       []int  `json:"error_codes,omitempty"`
	Timestamp   string `json:"timestamp,omitempty"`
	Trace       string `json:"trace_id,omitempty"`
}

// tokenAnswer is what a successful token request gets.
type tokenAnswer struct {
	Type     string `json:"token_type"`
	Expires  int    `json:"expires_in"`
	Extended int    `json:"ext_expires_in"`
	On       string `json:"expires_on"`
	Resource string `json:"resource"`
	Access   string `json:"access_token"`
	Refresh  string `json:"refresh_token,omitempty"`
}

// refusal is a token request that is not granted. It is always answered 401:
// clients remember an answer 400 and repeat it to a user who has typed the right
// secret since.
type refusal struct {
	kind string
	code int
	text string
}

// token is the token endpoint.
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		writeJSON(w, http.StatusMethodNotAllowed, oauthError{Error: "invalid_request", Description: "AADSTS900561: the endpoint only accepts POST requests"})
		return
	}
	if err := r.ParseForm(); err != nil {
		writeJSON(w, http.StatusBadRequest, oauthError{Error: "invalid_request", Description: "AADSTS900144: the request body is not a form"})
		return
	}
	p, credential, refused, err := s.grant(r)
	if err == nil && refused == nil {
		err = s.answerToken(w, r, p, credential)
	}
	switch {
	case refused != nil:
		writeJSON(w, http.StatusUnauthorized, oauthError{
			Error: refused.kind, Description: refused.text, Codes: []int{refused.code},
			Timestamp: s.now().UTC().Format("2006-01-02 15:04:05Z"), Trace: uuid.NewString(),
		})
	case err != nil:
		writeJSON(w, http.StatusInternalServerError, oauthError{Error: "server_error", Description: "the tenant's records could not be read"})
	}
}

// grant decides a token request: for whom, and on which credential it rests.
func (s *Service) grant(r *http.Request) (Principal, string, *refusal, error) {
	form := r.PostForm
	client, secret := form.Get("client_id"), form.Get("client_secret")
	if id, password, ok := r.BasicAuth(); ok && client == "" {
		client, secret = id, password
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "refresh_token":
		return s.grantRefresh(r)
	default:
		return Principal{}, "", &refusal{"unsupported_grant_type", 70003, "AADSTS70003: the grant type is not supported: sign in as a service principal"}, nil
	}
	p, err := s.byApp(r, client)
	if arm.IsCode(err, arm.CodeNotFound) {
		return p, "", &refusal{"unauthorized_client", 700016, "AADSTS700016: there is no application '" + printable(client) + "' in the tenant"}, nil
	}
	if err != nil {
		return p, "", nil, err
	}
	if assertion := form.Get("client_assertion"); assertion != "" {
		id, err := s.checkAssertion(r, p, assertion)
		if err != nil {
			return p, "", &refusal{"invalid_client", 700027, "AADSTS700027: the client assertion is not accepted: " + err.Error()}, nil
		}
		return p, id, nil, nil
	}
	if secret == "" {
		return p, "", &refusal{"invalid_client", 7000216, "AADSTS7000216: 'client_assertion' or 'client_secret' is required"}, nil
	}
	id, ok := s.directory.bySecret(p, secret)
	if !ok {
		return p, "", &refusal{"invalid_client", 7000215, "AADSTS7000215: invalid client secret for the application '" + p.App + "', or it has expired; goldsmith principal reset-secret makes a new one"}, nil
	}
	return p, id, nil, nil
}

// byApp is the principal that can sign in as application app.
func (s *Service) byApp(r *http.Request, app string) (Principal, error) {
	records, err := s.cfg.Principals.List(r.Context(), "")
	if err != nil {
		return Principal{}, err
	}
	for _, rec := range records {
		p, err := decode(rec)
		if err != nil {
			return p, err
		}
		if p.App != "" && strings.EqualFold(p.App, app) {
			return p, nil
		}
	}
	return Principal{}, arm.Errorf(arm.CodeNotFound, "there is no application %q", app)
}

// grantRefresh decides a request with a refresh token: its principal and the
// credential that it rests on must still be there.
func (s *Service) grantRefresh(r *http.Request) (Principal, string, *refusal, error) {
	no := &refusal{"invalid_grant", 700082, "AADSTS700082: the refresh token has expired or is not valid; sign in again"}
	c, err := s.verify(r.PostForm.Get("refresh_token"))
	if err != nil || c.Use != "refresh" {
		return Principal{}, "", no, nil
	}
	p, err := s.directory.Get(r.Context(), c.Object)
	if arm.IsCode(err, arm.CodeNotFound) {
		return p, "", no, nil
	}
	if err != nil {
		return p, "", nil, err
	}
	for _, known := range p.Credentials {
		if known.ID == c.Credential && s.now().Before(known.ExpiresAt) {
			return p, c.Credential, nil, nil
		}
	}
	return p, "", no, nil
}

func (s *Service) answerToken(w http.ResponseWriter, r *http.Request, p Principal, credential string) error {
	audience := s.requested(r.PostForm.Get("scope"), r.PostForm.Get("resource"))
	access, err := s.issue(r.Context(), p, audience, "", "", accessLifetime)
	if err != nil {
		return err
	}
	answer := tokenAnswer{
		Type: "Bearer", Expires: int(accessLifetime/time.Second) - 1, Extended: int(accessLifetime/time.Second) - 1,
		On: jsonTime(s.now().Add(accessLifetime)), Resource: audience, Access: access,
	}
	if credential != "" && strings.Contains(" "+r.PostForm.Get("scope")+" ", " offline_access ") {
		if answer.Refresh, err = s.issue(r.Context(), p, s.issuer(), credential, "refresh", refreshLifetime); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// assertionAlgorithms are those that a client may sign assertions with.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}

func jsonTime(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// printable is text of a client, fit to be repeated to it.
func printable(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '\'' {
			return '?'
		}
		return r
	}, s)
}
