package contract

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/providers"
	"goldsmith/internal/blob"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	tenant       = "22222222-2222-2222-2222-222222222222"
	principal    = "33333333-3333-3333-3333-333333333333"
	group        = "contract"
	region       = "westus2"
	scope        = "/subscriptions/" + subscription
	groupID      = scope + "/resourceGroups/" + group
)

// client is what the SDK's clients of a test are made with.
type client struct {
	cred      azcore.TokenCredential
	options   *arm.ClientOptions
	resources resource.Store
}

// serve starts a front door with every provider on SQLite and TLS, and makes the
// group.
func serve(t *testing.T) client {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	blobs := blob.NewMemory(nil)
	var api *armapi.API
	api, err = armapi.New(armapi.Config{
		Subscription: subscription, Tenant: tenant, Resources: db.Resources(), Documents: db.Documents,
		Authenticate: func(_ context.Context, r *http.Request) (armapi.Caller, error) {
			if r.Header.Get("Authorization") != "Bearer contract" {
				return armapi.Caller{}, errors.New("this is not the token of the test")
			}
			return armapi.Caller{ObjectID: principal, TenantID: tenant, Name: "contract"}, nil
		},
		Authorize: func(context.Context, armapi.Access) (bool, error) { return true, nil },
		Providers: providers.All(providers.Config{
			Subscription: subscription, Tenant: tenant, Store: db.Resources(), Blobs: blobs,
			BlobEndpoint: func(account string) string { return "https://" + account + ".blob.local.test/" },
			Register:     func(ctx context.Context, ns string) error { return api.SetRegistered(ctx, ns, true) },
			Call:         func(ctx context.Context, c armapi.Call) (armapi.Answer, error) { return api.Call(ctx, c) },
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(api)
	t.Cleanup(func() {
		server.Close()
		api.Close()
		if err := errors.Join(blobs.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	c := client{cred: token("contract"), resources: db.Resources(), options: &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: server.Client(),
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: server.URL, Audience: server.URL},
		}},
	}}}
	return c
}

// token is a credential that is its own token.
type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// pollLimit is far below the 30 s that clients wait between two polls when nobody
// tells them otherwise.
const pollLimit = 20 * time.Second

// done is the result of an operation that must end soon.
func done[T any](t *testing.T) func(*runtime.Poller[T], error) T {
	return func(p *runtime.Poller[T], err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), pollLimit)
		defer cancel()
		v, err := p.PollUntilDone(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// got is the result of a call that must succeed.
func got[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// pages are all pages of a list.
func pages[T any](t *testing.T, p *runtime.Pager[T]) []T {
	t.Helper()
	var all []T
	for p.More() {
		all = append(all, got[T](t)(p.NextPage(t.Context())))
	}
	return all
}

// refused checks the status and the code of an error.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status || e.ErrorCode != code {
		t.Errorf("error %v, want %d %s", err, status, code)
	}
}

// same compares texts of which either may be nil.
func same(t *testing.T, what string, got *string, want string) {
	t.Helper()
	if got == nil || !strings.EqualFold(*got, want) {
		if got == nil {
			t.Errorf("%s is missing, want %s", what, want)
			return
		}
		t.Errorf("%s is %s, want %s", what, *got, want)
	}
}
