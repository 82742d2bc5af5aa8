package identity

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	base   = "https://localhost:8443"
	tenant = "11111111-2222-3333-4444-555555555555"
)

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// tenantFor is a tenant with one service principal and its secret.
func tenantFor(t testing.TB, issuers ...Issuer) (s *Service, p Principal, secret string, c *clock) {
	t.Helper()
	db := memory.New()
	c = &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s, err := New(t.Context(), Config{
		BaseURL: base, Tenant: tenant, Domain: "goldsmith.local", Storage: "local.test:8443",
		Principals: db.Documents("principals"), Memberships: db.Documents("memberships"), Keys: db.Documents("signing-keys"), Resources: db.Resources(), Issuers: issuers, Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = s.Directory().Create(t.Context(), Principal{Kind: ServicePrincipal, Name: "deployer"}); err != nil {
		t.Fatal(err)
	}
	if secret, err = s.Directory().ResetSecret(t.Context(), p.ID, DefaultSecretLifetime); err != nil {
		t.Fatal(err)
	}
	return s, p, secret, c
}

// ask sends a request to the tenant and decodes the answer.
func ask(t *testing.T, s *Service, r *http.Request) (status int, answer map[string]any, header http.Header) {
	t.Helper()
	if !s.Serves(r.URL.Path) {
		t.Fatalf("the tenant does not serve %s", r.URL.Path)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v: %s", r.URL, err, body)
	}
	return w.Code, answer, w.Header()
}

func get(t *testing.T, s *Service, path, token string) (int, map[string]any, http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return ask(t, s, r)
}

func form(t *testing.T, s *Service, path string, pairs ...string) (int, map[string]any) {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, answer, _ := ask(t, s, r)
	return status, answer
}

// signIn gets a token for an audience.
func signIn(t *testing.T, s *Service, app, secret, scope string) string {
	t.Helper()
	status, answer := form(t, s, "/adfs/oauth2/token", "grant_type", "client_credentials", "client_id", app, "client_secret", secret, "scope", scope)
	if status != http.StatusOK {
		t.Fatalf("sign-in: %d %v", status, answer)
	}
	return answer["access_token"].(string)
}

func wantToken(t *testing.T, a *Authenticator, token string, code arm.Code) Caller {
	t.Helper()
	c, err := a.Token(t.Context(), token)
	if arm.CodeOf(err) != code {
		t.Fatalf("got %q (%v), want code %q", arm.CodeOf(err), err, code)
	}
	if code != "" && !Unauthenticated(err) {
		t.Fatalf("%v does not ask for a sign-in", err)
	}
	return c
}

func TestSignInAtEveryAuthority(t *testing.T) {
	s, p, secret, _ := tenantFor(t)
	for _, path := range []string{
		"/adfs/oauth2/token", "/adfs/" + tenant + "/oauth2/v2.0/token", "/" + tenant + "/oauth2/v2.0/token", "/" + tenant + "/oauth2/token",
		"/goldsmith.local/oauth2/v2.0/token", "/common/oauth2/v2.0/token", "/organizations/oauth2/v2.0/token",
	} {
		for _, scope := range []string{base + "//.default", base + "/.default", base + "/.default openid offline_access profile", "https://management.azure.com/.default", ""} {
			status, answer := form(t, s, path, "grant_type", "client_credentials", "client_id", strings.ToUpper(p.App), "client_secret", secret, "scope", scope)
			if status != http.StatusOK || answer["token_type"] != "Bearer" || answer["expires_in"] != 3599.0 {
				t.Fatalf("%s: %d %v", path, status, answer)
			}
			if _, refresh := answer["refresh_token"]; refresh != strings.Contains(scope, "offline_access") {
				t.Errorf("%s %q: refresh token %v", path, scope, refresh)
			}
			got := wantToken(t, s.Management(), answer["access_token"].(string), "")
			want := Caller{ObjectID: p.ID, TenantID: tenant, AppID: p.App, Name: "deployer"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestRefusedSignIns(t *testing.T) {
	s, p, secret, c := tenantFor(t)
	for name, pairs := range map[string][]string{
		"wrong secret":   {"grant_type", "client_credentials", "client_id", p.App, "client_secret", secret + "x"},
		"no secret":      {"grant_type", "client_credentials", "client_id", p.App},
		"no application": {"grant_type", "client_credentials", "client_id", "x'\n", "client_secret", secret},
		"object id":      {"grant_type", "client_credentials", "client_id", p.ID, "client_secret", secret},
		"password":       {"grant_type", "password", "username", "a", "password", "b"},
		"bad assertion":  {"grant_type", "client_credentials", "client_id", p.App, "client_assertion", "a.b.c"},
		"bad refresh":    {"grant_type", "refresh_token", "refresh_token", signIn(t, s, p.App, secret, "")},
	} {
		status, answer := form(t, s, "/adfs/oauth2/token", pairs...)
		if status != http.StatusUnauthorized || !strings.HasPrefix(answer["error_description"].(string), "AADSTS") {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	c.t = c.t.Add(DefaultSecretLifetime + time.Second)
	if status, _ := form(t, s, "/adfs/oauth2/token", "grant_type", "client_credentials", "client_id", p.App, "client_secret", secret); status != http.StatusUnauthorized {
		t.Errorf("an expired secret is answered %d", status)
	}
}

func TestRefresh(t *testing.T) {
	s, p, secret, c := tenantFor(t)
	ask := func(pairs ...string) (int, map[string]any) {
		return form(t, s, "/"+tenant+"/oauth2/v2.0/token", pairs...)
	}
	_, answer := ask("grant_type", "client_credentials", "client_id", p.App, "client_secret", secret, "scope", base+"/.default offline_access")
	refresh := answer["refresh_token"].(string)
	wantToken(t, s.Management(), refresh, codeInvalidToken)
	c.t = c.t.Add(2 * time.Hour)
	status, answer := ask("grant_type", "refresh_token", "refresh_token", refresh, "scope", base+"/.default")
	if status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	wantToken(t, s.Management(), answer["access_token"].(string), "")
	if _, err := s.Directory().ResetSecret(t.Context(), p.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	if status, _ = ask("grant_type", "refresh_token", "refresh_token", refresh); status != http.StatusUnauthorized {
		t.Errorf("a token of a replaced secret refreshes: %d", status)
	}
}

func TestTokensAreChecked(t *testing.T) {
	s, p, secret, c := tenantFor(t)
	arms, storage := s.Management(), s.Storage()
	good := signIn(t, s, p.App, secret, base+"//.default")
	wantToken(t, arms, good, "")
	wantToken(t, storage, good, codeWrongAudience)
	for _, scope := range []string{"https://storage.azure.com/.default", "https://acct1.blob.local.test:8443/.default", "https://acct1.blob.core.windows.net/.default"} {
		data := signIn(t, s, p.App, secret, scope)
		wantToken(t, storage, data, "")
		wantToken(t, arms, data, codeWrongAudience)
	}

	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	other, _, otherSecret, _ := tenantFor(t)
	otherApp, err := other.Directory().Find(t.Context(), "deployer")
	if err != nil {
		t.Fatal(err)
	}
	symmetric := func() string { // the public key as the secret of an HMAC
		key, _ := s.keys.public(s.keys.keys[0].id)
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: der, KeyID: s.keys.keys[0].id}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return serialize(t, signer, claims{Tenant: tenant, Object: p.ID})
	}
	endless := func(change func(*claims)) string {
		cl := claims{
			Claims: jwt.Claims{Issuer: s.issuer(), Audience: jwt.Audience{base}, Expiry: jwt.NewNumericDate(c.t.Add(time.Hour))},
			Tenant: tenant, Object: p.ID,
		}
		change(&cl)
		return serialize(t, s.keys.keys[0].signer, cl)
	}
	for name, tt := range map[string]struct {
		token string
		code  arm.Code
	}{
		"alg none":        {none + "." + parts[1] + ".", codeInvalidToken},
		"no signature":    {parts[0] + "." + parts[1] + ".", codeInvalidToken},
		"changed claims":  {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"oid":"x"}`)) + "." + parts[2], codeInvalidToken},
		"other tenant's":  {signIn(t, other, otherApp.App, otherSecret, base+"/.default"), codeInvalidToken},
		"HMAC":            {symmetric(), codeInvalidToken},
		"huge":            {strings.Repeat("a", maxTokenBytes+1), codeInvalidToken},
		"text":            {"opaque", codeInvalidToken},
		"never expires":   {endless(func(c *claims) { c.Expiry = nil }), codeInvalidToken},
		"not yet":         {endless(func(cl *claims) { cl.NotBefore = jwt.NewNumericDate(c.t.Add(time.Hour)) }), codeInvalidToken},
		"expired":         {endless(func(cl *claims) { cl.Expiry = jwt.NewNumericDate(c.t.Add(-2 * time.Minute)) }), codeExpiredToken},
		"wrong tenant":    {endless(func(cl *claims) { cl.Tenant = "x" }), codeWrongTenant},
		"wrong issuer":    {endless(func(cl *claims) { cl.Issuer = "https://x" }), codeWrongTenant},
		"wrong audience":  {endless(func(cl *claims) { cl.Audience = jwt.Audience{"https://graph"} }), codeWrongAudience},
		"within the skew": {endless(func(cl *claims) { cl.Expiry = jwt.NewNumericDate(c.t.Add(-30 * time.Second)) }), ""},
		"azure's manager": {endless(func(cl *claims) { cl.Audience = jwt.Audience{"https://Management.Azure.com//"} }), ""},
		"nobody":          {endless(func(cl *claims) { cl.Object = "9" }), codeInvalidToken},
	} {
		t.Run(name, func(t *testing.T) { wantToken(t, arms, tt.token, tt.code) })
	}
	for header, code := range map[string]arm.Code{"": codeMissingToken, "Basic eDp5": codeMissingToken, "Bearer ": codeMissingToken, "bearer " + good: ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		if _, err := arms.Authenticate(t.Context(), r); arm.CodeOf(err) != code {
			t.Errorf("%.10q: %v", header, err)
		}
	}

	c.t = c.t.Add(accessLifetime + 2*clockSkew) // the remembered token too
	wantToken(t, arms, good, codeExpiredToken)
	c.t = c.t.Add(-accessLifetime)
	if err := s.Directory().Delete(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	wantToken(t, arms, good, codeInvalidToken)
}

func serialize(t *testing.T, signer jose.Signer, c any) string {
	t.Helper()
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestKeysRotate(t *testing.T) {
	s, p, secret, c := tenantFor(t)
	keys := func() []any {
		_, set, _ := get(t, s, "/"+tenant+"/discovery/keys", "")
		return set["keys"].([]any)
	}
	first := keys()
	c.t = c.t.Add(keyAge - 30*time.Minute)
	old := signIn(t, s, p.App, secret, base)
	c.t = c.t.Add(40 * time.Minute)
	renewed := signIn(t, s, p.App, secret, base)
	wantToken(t, s.Management(), old, "") // what the former key signed is still good
	wantToken(t, s.Management(), renewed, "")
	second := keys()
	if len(first) != 1 || len(second) != 2 || cmp.Diff(first[0], second[1]) != "" {
		t.Fatalf("%v, then %v", first, second)
	}
	for _, k := range second {
		if _, private := k.(map[string]any)["d"]; private {
			t.Fatal("the key set shows a private key")
		}
	}
	again, err := New(t.Context(), s.cfg) // another start reads the same keys
	if err != nil {
		t.Fatal(err)
	}
	wantToken(t, again.Management(), renewed, "")
}

func TestMetadata(t *testing.T) {
	s, _, _, _ := tenantFor(t)
	_, old, _ := get(t, s, "/metadata/endpoints?api-version=2015-01-01", "")
	want := map[string]any{
		"galleryEndpoint": base + "/", "graphEndpoint": base + "/", "portalEndpoint": base + "/",
		"authentication": map[string]any{"loginEndpoint": base + "/adfs", "audiences": []any{base + "/"}},
	}
	if diff := cmp.Diff(want, old); diff != "" {
		t.Error(diff)
	}
	_, now, _ := get(t, s, "/metadata/endpoints?api-version=2022-09-01", "")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metadata/endpoints?api-version=2019-05-01", nil))
	var list []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if diff := cmp.Diff(now, list[0]); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"name", "resourceManager", "microsoftGraphResourceId", "vmImageAliasDoc", "suffixes", "authentication"} {
		if now[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	for path, token := range map[string]string{
		"/adfs/.well-known/openid-configuration":                     base + "/adfs/oauth2/token",
		"/adfs/goldsmith.local/.well-known/openid-configuration":     base + "/adfs/oauth2/token",
		"/" + tenant + "/v2.0/.well-known/openid-configuration?":     base + "/" + tenant + "/oauth2/v2.0/token",
		"/goldsmith.local/v2.0/.well-known/openid-configuration":     base + "/" + tenant + "/oauth2/v2.0/token",
		"/organizations/v2.0/.well-known/openid-configuration?x=%00": base + "/" + tenant + "/oauth2/v2.0/token",
	} {
		status, doc, _ := get(t, s, path, "")
		if status != http.StatusOK || doc["token_endpoint"] != token || doc["issuer"] != base+"/"+tenant {
			t.Errorf("%s: %d %v", path, status, doc)
		}
	}
	if s.Serves("/subscriptions/x") || s.Serves("/") || s.Serves("/22222222-2222-3333-4444-555555555555/oauth2/token") || s.Serves("/metadata") {
		t.Error("the tenant takes what is not its own")
	}
	for _, path := range []string{"/aliases.json", "/common/discovery/instance?api-version=1.1"} {
		if status, _, _ := get(t, s, path, ""); status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _, _ := get(t, s, "/adfs/nothing", ""); status != http.StatusNotFound {
		t.Error(status)
	}
}

func TestDirectoryObjects(t *testing.T) {
	s, p, secret, _ := tenantFor(t)
	ctx := t.Context()
	managed := resource.Record{
		ID:   "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1",
		Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Name: "id1",
		Properties: json.RawMessage(`{"tenantId":"t","principalId":"cccccccc-0000-0000-0000-000000000003","clientId":"dddddddd-0000-0000-0000-000000000004"}`),
	}
	if _, _, err := s.cfg.Resources.Put(ctx, managed, resource.Condition{}); err != nil {
		t.Fatal(err)
	}
	user, err := s.Directory().Create(ctx, Principal{Kind: User, Name: "o'neill", UPN: "o'neill@x"})
	if err != nil {
		t.Fatal(err)
	}
	team, err := s.Directory().Create(ctx, Principal{Kind: Group, Name: "team"})
	if err != nil {
		t.Fatal(err)
	}
	token := signIn(t, s, p.App, secret, base+"//.default")
	ids := func(path string) (out []string) {
		t.Helper()
		status, answer, _ := get(t, s, path, token)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %v", path, status, answer)
		}
		for _, v := range answer["value"].([]any) {
			out = append(out, v.(map[string]any)["id"].(string))
		}
		return out
	}
	for filter, want := range map[string][]string{
		"/v1.0/servicePrincipals?$filter=" + url.QueryEscape("servicePrincipalNames/any(c:c eq '"+rbac.BuilderApp+"')"):                        {rbac.BuilderObject},
		"/graph/v1.0/servicePrincipals?$filter=" + url.QueryEscape("servicePrincipalNames/any(c:c eq 'dddddddd-0000-0000-0000-000000000004')"): {"cccccccc-0000-0000-0000-000000000003"},
		"/v1.0/servicePrincipals?$filter=" + url.QueryEscape("appId eq '"+strings.ToUpper(p.App)+"'"):                                          {p.ID},
		"/v1.0/servicePrincipals?$filter=" + url.QueryEscape("appId eq '"+p.App+"' and displayName eq 'x'"):                                    nil,
		"/v1.0/users?$filter=" + url.QueryEscape("userPrincipalName eq 'o''neill@x'"):                                                          {user.ID},
		"/v1.0/users": {user.ID}, "/v1.0/groups": {team.ID},
		"/v1.0/servicePrincipals?$filter=" + url.QueryEscape("displayName eq 'team'"): nil,
	} {
		if diff := cmp.Diff(want, ids(filter)); diff != "" {
			t.Errorf("%s: %s", filter, diff)
		}
	}
	for path, want := range map[string]int{
		"/v1.0/users/" + user.ID: 200, "/v1.0/users/" + url.PathEscape(user.UPN): 200, "/v1.0/users/" + p.ID: 404, "/v1.0/me": 200,
		"/v1.0/users?$filter=" + url.QueryEscape("startswith(displayName,'a')"): 400, "/v1.0/nothing": 404,
		"/v1.0/users?$filter=" + url.QueryEscape("id eq 'unclosed"): 400, "/graph/v1.0/": 404,
	} {
		if status, answer, _ := get(t, s, path, token); status != want {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/v1.0/directoryObjects/microsoft.graph.getByIds",
		strings.NewReader(`{"ids":["`+strings.ToUpper(rbac.BuilderObject)+`","`+team.ID+`","x"],"types":["user","group","servicePrincipal"]}`))
	r.Header.Set("Authorization", "Bearer "+token)
	status, answer, _ := ask(t, s, r)
	if values := answer["value"].([]any); status != 200 || len(values) != 2 || values[0].(map[string]any)["@odata.type"] != "#microsoft.graph.servicePrincipal" {
		t.Errorf("%d %v", status, answer)
	}
	if status, _, h := get(t, s, "/v1.0/users", ""); status != http.StatusUnauthorized || !strings.HasPrefix(h.Get("WWW-Authenticate"), "Bearer authorization_uri=") {
		t.Errorf("without a token: %d %v", status, h)
	}
}

func TestDirectory(t *testing.T) {
	s, p, _, _ := tenantFor(t)
	d, ctx := s.Directory(), t.Context()
	for _, bad := range []Principal{
		{Kind: ServicePrincipal, Name: "DEPLOYER"}, {Kind: User, Name: "azure virtual machine image builder"},
		{Kind: ServicePrincipal, Name: "x", App: p.App}, {Kind: User, Name: p.ID},
	} {
		if _, err := d.Create(ctx, bad); !arm.IsCode(err, arm.CodeConflict) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, bad := range []Principal{
		{Kind: User}, {Kind: "Robot", Name: "x"}, {Kind: User, Name: "a\nb"}, {Kind: User, Name: "x", App: p.App},
		{Kind: ServicePrincipal, Name: "x", App: "y"}, {Kind: User, Name: "x", ID: "y"},
		{Kind: ServicePrincipal, Name: "x", Credentials: []Credential{{Certificate: []byte("x")}}},
	} {
		if _, err := d.Create(ctx, bad); !arm.IsCode(err, arm.CodeValidationFailed) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	team, err := d.Create(ctx, Principal{Kind: Group, Name: "team"})
	if err != nil {
		t.Fatal(err)
	}
	member, err := d.Create(ctx, Principal{Kind: User, Name: "m", Groups: []string{team.ID}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(ctx, team.ID); err != nil {
		t.Fatal(err)
	}
	if member, err = d.Get(ctx, member.ID); err != nil || len(member.Groups) > 0 {
		t.Errorf("%+v %v", member, err)
	}
	for _, ref := range []string{p.ID, p.App, "Deployer"} {
		if got, err := d.Find(ctx, ref); err != nil || got.ID != p.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := d.Find(ctx, ""); !arm.IsCode(err, arm.CodeNotFound) {
		t.Error(err)
	}
	if _, err := d.ResetSecret(ctx, member.ID, time.Hour); !arm.IsCode(err, arm.CodeValidationFailed) {
		t.Errorf("a user with a secret: %v", err)
	}
	rec, err := s.cfg.Principals.Get(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := d.ResetSecret(ctx, p.ID, time.Hour)
	if err != nil || strings.Contains(string(rec.Body), secret) {
		t.Errorf("%v: the secret is stored", err)
	}
}
