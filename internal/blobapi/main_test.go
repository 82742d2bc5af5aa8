package blobapi_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"go.uber.org/goleak"

	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/blobtest"
	"goldsmith/internal/blobapi"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	suffix    = "storage.test"
	name      = "scripts01"
	accountID = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/" + name
	scope     = accountID + "/blobServices/default/containers/"

	actions     = "Microsoft.Storage/storageAccounts/blobServices/"
	readBlobs   = actions + "containers/blobs/read"
	writeBlobs  = actions + "containers/blobs/write"
	addBlobs    = actions + "containers/blobs/add/action"
	deleteBlobs = actions + "containers/blobs/delete"
)

// people are callers by their tokens, and what they may do: "action scope".
type people struct {
	mu     sync.Mutex
	rights map[string][]string // by object id
	asked  []authorization.Request
}

var errNoToken = errors.New("the token is forged or expired")

// Authenticate implements blobapi.Authenticator: the token is the object id.
func (p *people) Authenticate(_ context.Context, r *http.Request) (identity.Caller, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.rights[token]; !ok {
		return identity.Caller{}, errNoToken
	}
	return identity.Caller{ObjectID: token, TenantID: "tenant"}, nil
}

// Check implements blobapi.Authorizer.
func (p *people) Check(_ context.Context, r authorization.Request) (rbac.Decision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r)
	for _, right := range p.rights[r.Principal] {
		action, where, _ := strings.Cut(right, " ")
		data := strings.Contains(action, "/blobs/")
		if action == r.Action && data == r.Data && strings.HasPrefix(r.Scope, where) {
			return rbac.Decision{Allowed: true}, nil
		}
	}
	return rbac.Decision{}, nil
}

// Record implements blobapi.Authorizer.
func (p *people) Record(context.Context, authorization.Request, rbac.Decision) error { return nil }

func (p *people) grant(who string, rights ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rights[who] = rights
}

// world is a service with one account.
type world struct {
	blobs   *blob.Accounts
	store   resource.Store
	people  *people
	handler *blobapi.Handler
	server  *httptest.Server
	client  *http.Client
	key     string // base64
}

func newWorld(t testing.TB, blobs *blob.Accounts) *world {
	t.Helper()
	ok(t, blobs.CreateAccount(t.Context(), name))
	return newExisting(t, blobs)
}

// newExisting is newWorld over blobs that have the account already.
func newExisting(t testing.TB, blobs *blob.Accounts) *world {
	t.Helper()
	everybody := &people{rights: map[string][]string{}}
	return newDecided(t, blobs, memory.New().Resources(), everybody, everybody)
}

// newDecided is a world in which access decides.
func newDecided(t testing.TB, blobs *blob.Accounts, store resource.Store, everybody *people, access blobapi.Authorizer) *world {
	t.Helper()
	w := &world{blobs: blobs, store: store, people: everybody}
	w.people.grant("all", writeBlobs+" "+scope)
	w.putAccount(t, accountID, `{}`)
	secrets, err := account.Load(t.Context(), w.store, accountID)
	if err != nil {
		t.Fatal(err)
	}
	w.key = base64.StdEncoding.EncodeToString(secrets.Keys[0].Value)
	w.handler = blobapi.New(blobapi.Config{
		Blobs: blobs, Accounts: account.NewDirectory(w.store), Authenticate: w.people, Authorize: access, Suffix: suffix, Login: "https://login.test/tenant",
	})
	w.server = httptest.NewTLSServer(w.handler)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.server.Listener.Addr().String())
		},
	}
	w.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		w.server.Close()
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func memoryWorld(t testing.TB) *world {
	return newWorld(t, blob.NewMemory(blobtest.Renderer{}))
}

func (w *world) addAccount(t testing.TB, id, properties string) {
	t.Helper()
	ok(t, w.blobs.CreateAccount(t.Context(), id[strings.LastIndex(id, "/")+1:]))
	w.putAccount(t, id, properties)
}

func (w *world) putAccount(t testing.TB, id, properties string) {
	t.Helper()
	short := id[strings.LastIndex(id, "/")+1:]
	_, _, err := w.store.Put(t.Context(), resource.Record{ID: id, Type: account.Type, Name: short, Properties: json.RawMessage(properties)}, resource.Condition{})
	ok(t, err)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const endpoint = "https://" + name + ".blob." + suffix + "/"

func (w *world) options() *azblob.ClientOptions {
	return &azblob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: w.client, Retry: policy.RetryOptions{MaxRetries: -1}}}
}

// keyClient is the SDK's client with the account's key.
func (w *world) keyClient(t testing.TB) *azblob.Client {
	t.Helper()
	cred, err := azblob.NewSharedKeyCredential(name, w.key)
	ok(t, err)
	c, err := azblob.NewClientWithSharedKeyCredential(endpoint, cred, w.options())
	ok(t, err)
	return c
}

// token is a credential whose token is the object id.
type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (w *world) tokenClient(t testing.TB, who string) *azblob.Client {
	t.Helper()
	c, err := azblob.NewClient(endpoint, token(who), w.options())
	ok(t, err)
	return c
}

func (w *world) sasClient(t testing.TB, url string) *service.Client {
	t.Helper()
	c, err := service.NewClientWithNoCredential(url, &service.ClientOptions{ClientOptions: w.options().ClientOptions})
	ok(t, err)
	return c
}

// wantCode checks the service's error code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.ErrorCode != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

// do sends a plain request; body may be "".
func (w *world) do(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	ok(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(r)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	ok(t, err)
	return resp, string(raw)
}
