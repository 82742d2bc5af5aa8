package providers_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/armapi/providers"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

const (
	benchGroups      = 50 // of the full store
	benchPerGroup    = 1000
	benchAssignments = 5000
	benchCaller      = "44444444-4444-4444-4444-444444444444"
)

// filled is a front door over SQLite with 1,000 resources in each group and 5,000
// assignments, which decides by the policy that they make.
func filled(b *testing.B, groups int) *httptest.Server {
	b.Helper()
	ctx := b.Context()
	db, err := store.Open(ctx, filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	put := func(r resource.Record) {
		if _, _, err := db.Resources().Put(ctx, r, resource.Condition{}); err != nil {
			b.Fatal(err)
		}
	}
	group := func(i int) string { return fmt.Sprintf("%s/resourceGroups/g%03d", s, i) }
	for i := range groups {
		put(resource.Record{ID: group(i), Type: armapi.TypeGroup, Name: fmt.Sprintf("g%03d", i), Location: "westus2", Properties: []byte(`{"provisioningState":"Succeeded"}`)})
		for j := range benchPerGroup {
			name := fmt.Sprintf("id%04d", j)
			put(resource.Record{
				ID: group(i) + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name, Type: "Microsoft.ManagedIdentity/userAssignedIdentities",
				Name: name, Location: "westus2", Properties: []byte(`{"clientId":"c","principalId":"p","tenantId":"t"}`),
			})
		}
	}
	for i := range benchAssignments {
		principal := fmt.Sprintf("00000000-0000-0000-0000-%012d", i)
		if i < groups {
			principal = benchCaller
		}
		id := fmt.Sprintf("%s/providers/%s/00000000-0000-0000-0000-%012d", group(i%groups), rbac.TypeAssignment, i)
		put(resource.Record{ID: id, Type: rbac.TypeAssignment, Name: fmt.Sprint(i), Properties: fmt.Appendf(nil,
			`{"principalId":%q,"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","scope":%q}`, principal, rbac.Reader, group(i%groups))})
	}
	auth := authorization.Open(db)
	blobs := blob.NewMemory(nil)
	api, err := armapi.New(armapi.Config{
		Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Resources: db.Resources(), Documents: db.Documents,
		Authenticate: func(context.Context, *http.Request) (armapi.Caller, error) {
			return armapi.Caller{ObjectID: benchCaller, TenantID: armapitest.Tenant}, nil
		},
		Authorize: func(ctx context.Context, a armapi.Access) (bool, error) {
			d, err := auth.Check(ctx, authorization.Request{Principal: a.Caller.ObjectID, Action: a.Action, Scope: a.Scope})
			return d.Allowed, err
		},
		Providers: providers.All(providers.Config{Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: db.Resources(), Blobs: blobs,
			BlobEndpoint: func(a string) string { return "https://" + a + "/" }}),
	})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewTLSServer(api)
	b.Cleanup(func() {
		server.Close()
		api.Close()
		for _, c := range []io.Closer{auth, blobs, db} {
			if err := c.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	return server
}

// load asks for paths with 16 clients at once and reports the rate and the 99th
// percentile. Clients and service share the CPUs.
func load(b *testing.B, server *httptest.Server, path func(i int) string) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	start, burnt := time.Now(), cpu(b)
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				at := time.Now()
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+path(int(i))+"api-version=2024-01-01", nil)
				if err != nil {
					b.Error(err)
					return
				}
				res, err := server.Client().Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Errorf("%s: %s", path(int(i)), res.Status)
					return
				}
				took[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	burnt = cpu(b) - burnt
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "req/s")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
	b.ReportMetric(float64(burnt.Microseconds())/float64(b.N), "cpu-us/req")
	b.ReportMetric(float64(runtime.NumCPU()), "cpus")
}

// cpu is the processor time of this process, clients and service.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFrontDoor measures authorised reads among 50,000 resources: of one, and
// of a page of a group's list; and that page where there is no other group.
func BenchmarkFrontDoor(b *testing.B) {
	const typ = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
	page := func(groups int) func(int) string {
		return func(i int) string { return fmt.Sprintf("%s/resourceGroups/g%03d%s?$top=50&", s, i%groups, typ) }
	}
	server := filled(b, benchGroups)
	b.Run("get", func(b *testing.B) {
		load(b, server, func(i int) string {
			return fmt.Sprintf("%s/resourceGroups/g%03d%s/id%04d?", s, i%benchGroups, typ, i*7%benchPerGroup)
		})
	})
	b.Run("page", func(b *testing.B) { load(b, server, page(benchGroups)) })
	alone := filled(b, 1)
	b.Run("page-alone", func(b *testing.B) { load(b, alone, page(1)) })
}
