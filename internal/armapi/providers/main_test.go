package providers_test

import (
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/armapi/providers"
	"goldsmith/internal/blob"
	"goldsmith/internal/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	s  = armapitest.S
	rg = s + "/resourceGroups/g"
)

// door has every provider and the group g.
func door(t *testing.T) (*armapitest.Door, *blob.Accounts) {
	t.Helper()
	blobs := blob.NewMemory(nil)
	t.Cleanup(func() {
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	})
	d := armapitest.New(t, func(store resource.Store) []armapi.Provider {
		return providers.All(providers.Config{
			Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: store, Blobs: blobs,
			BlobEndpoint: func(account string) string { return "https://" + account + ".blob.local.test:8443/" },
		})
	})
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	return d, blobs
}
