package imds_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/internal/network"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/network/networktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type tokens struct{}

func (tokens) IdentityToken(_ context.Context, id, audience string) (imds.Token, error) {
	if audience == "broken" {
		return imds.Token{}, errors.New("secret cause")
	}
	return imds.Token{Access: id + " for " + audience, Expires: time.Now().Add(time.Hour)}, nil
}

const prefix = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"

var (
	first  = imds.Identity{ID: prefix + "first", PrincipalID: "p1", ClientID: "c1"}
	second = imds.Identity{ID: prefix + "second", PrincipalID: "p2", ClientID: "c2"}
)

// guest is a client inside the network of a build.
func guest(t *testing.T, services map[netip.AddrPort]network.Service) *http.Client {
	t.Helper()
	n, err := network.NewPrivate(network.Config{Services: services, Dial: func(context.Context, string, netip.AddrPort) (net.Conn, error) {
		t.Error("something was looked for outside")
		return nil, net.ErrClosed
	}})
	if err != nil {
		t.Fatal(err)
	}
	wire, err := n.AttachBuildVM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g, err := networktest.NewGuest(wire, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: g.Dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := errors.Join(g.Close(), n.Close()); err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func get(t *testing.T, c *http.Client, path string, header ...string) (status int, body map[string]string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://169.254.169.254"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

const tokenPath = "/metadata/identity/oauth2/token?api-version=2018-02-01"

func TestFromInside(t *testing.T) {
	s := imds.New([]imds.Identity{first, second}, tokens{})
	defer func() { _ = s.Close() }()
	c := guest(t, map[netip.AddrPort]network.Service{imds.Address: s.Dial})
	for _, tt := range []struct {
		path   string
		header []string
		status int
		want   string // access_token or error
	}{
		{tokenPath + "&resource=https://storage.azure.com/&client_id=c1", []string{"Metadata", "true"}, 200, first.ID + " for https://storage.azure.com/"},
		{tokenPath + "&resource=r&object_id=P2", []string{"Metadata", "true"}, 200, second.ID + " for r"},
		{tokenPath + "&resource=r&mi_res_id=" + second.ID, []string{"Metadata", "true"}, 200, second.ID + " for r"},
		{tokenPath + "&resource=r&msi_res_id=" + first.ID, []string{"Metadata", "true"}, 200, first.ID + " for r"},
		{tokenPath + "&resource=r", []string{"Metadata", "true"}, 400, "invalid_request"},
		{tokenPath + "&resource=r&client_id=c1&object_id=p2", []string{"Metadata", "true"}, 400, "invalid_request"},
		{tokenPath + "&resource=r&client_id=template", []string{"Metadata", "true"}, 400, "invalid_request"},
		{tokenPath + "&client_id=c1", []string{"Metadata", "true"}, 400, "invalid_resource"},
		{tokenPath + "&resource=broken&client_id=c1", []string{"Metadata", "true"}, 500, "unknown"},
		{"/metadata/identity/oauth2/token?resource=r", []string{"Metadata", "true"}, 400, "bad_request"},
		{tokenPath + "&resource=r&client_id=c1", nil, 400, "bad_request_102"},
		{tokenPath + "&resource=r&client_id=c1", []string{"Metadata", "true", "X-Forwarded-For", "1.2.3.4"}, 400, "invalid_request"},
		{"/metadata/instance?api-version=2021-02-01", []string{"Metadata", "true"}, 404, "not_found"},
	} {
		status, body := get(t, c, tt.path, tt.header...)
		if status != tt.status || body["access_token"]+body["error"] != tt.want {
			t.Errorf("%s: %d %v", tt.path, status, body)
		}
	}
}

// TestWithoutIdentities is what every build without vmProfile.userAssignedIdentities
// sees: nobody answers.
func TestWithoutIdentities(t *testing.T) {
	c := guest(t, nil)
	for _, address := range []string{"http://169.254.169.254" + tokenPath + "&resource=r", "http://168.63.129.16/", "http://10.0.0.1/metadata/identity/oauth2/token"} {
		if resp, err := c.Get(address); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s answered %s", address, resp.Status)
		}
	}
}

func TestOneIdentityNeedsNoName(t *testing.T) {
	s := imds.New([]imds.Identity{first}, tokens{})
	defer func() { _ = s.Close() }()
	c := guest(t, map[netip.AddrPort]network.Service{imds.Address: s.Dial})
	if status, body := get(t, c, tokenPath+"&resource=r", "Metadata", "true"); status != 200 || body["client_id"] != "c1" || body["expires_in"] == "" {
		t.Errorf("%d %v", status, body)
	}
}
