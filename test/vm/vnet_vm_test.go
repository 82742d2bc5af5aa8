//go:build vm

package vm

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/event"
)

// vnetFile is a network "vm-vnet/v" with a subnet for builds whose security group
// denies everything but what the checklist asks for.
func vnetFile(t *testing.T, policies string) string {
	t.Helper()
	const scope = "/subscriptions/<subscriptionID>/resourceGroups/vm-vnet/providers/Microsoft.Network/"
	rule := func(name string, priority int, access, from, to, ports string) map[string]any {
		return map[string]any{"name": name, "properties": map[string]any{
			"priority": priority, "direction": "Inbound", "access": access, "protocol": "*", "sourceAddressPrefix": from,
			"sourcePortRange": "*", "destinationAddressPrefix": to, "destinationPortRange": ports,
		}}
	}
	text, err := json.Marshal([]any{
		map[string]any{"id": scope + "networkSecurityGroups/g", "type": "Microsoft.Network/networkSecurityGroups", "location": "westus2",
			"properties": map[string]any{"securityRules": []any{
				rule("balancer", 400, "Allow", "AzureLoadBalancer", "VirtualNetwork", "60000-60001"),
				rule("ssh", 401, "Allow", "VirtualNetwork", "VirtualNetwork", "22"),
				rule("deny", 4096, "Deny", "*", "*", "*"),
			}}},
		map[string]any{"id": scope + "virtualNetworks/v", "type": "Microsoft.Network/virtualNetworks", "location": "westus2",
			"properties": map[string]any{
				"addressSpace": map[string]any{"addressPrefixes": []string{"10.77.0.0/16"}},
				"subnets": []any{map[string]any{"name": "build", "properties": map[string]any{
					"addressPrefix": "10.77.0.0/24", "privateLinkServiceNetworkPolicies": policies,
					"networkSecurityGroup": map[string]any{"id": scope + "networkSecurityGroups/g"},
				}}},
			}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "network.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExistingNetwork builds on a network of the user's, with exactly the rights
// that takes, over private link, load balancer and a real proxy VM, and looks from
// inside and at the traffic.
func TestExistingNetwork(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	h.must(t, "network", "put", vnetFile(t, "Disabled"))
	exposed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer exposed.Close()
	go func() {
		for {
			c, err := exposed.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("database\n"))
			_ = c.Close()
		}
	}()
	h.must(t, "network", "expose", "--vnet", "vm-vnet/v", "--at", "10.77.0.50:5432", "--target", exposed.Addr().String(), "--name", "db.corp")
	contains(t, h.must(t, "network", "check", "--vnet", "vm-vnet/v", "--from", "AzureLoadBalancer", "--to", "10.77.0.6", "--port", "60001"), "allowed by rule balancer")

	closed := serve(t, "127.0.0.1")
	spec := templateSpec{Name: "vm-vnet", Customize: []step{
		shell("look", "ip -4 -brief address; ip route", `timeout 20 bash -c "exec 3<>/dev/tcp/db.corp/5432; head -n1 <&3"`,
			"for t in 169.254.169.254:80 127.0.0.2:"+port(t, closed)+" 10.77.0.5:60001; do timeout 8 bash -c \"exec 3<>/dev/tcp/${t%%:*}/${t##*:}; timeout 3 head -c 3 <&3 | grep -q SSH\" 2>/dev/null && echo \"reached $t\" || echo \"refused $t\"; done"),
		shell("resolve", archiveProbe),
		shell("wait", "echo waiting; sleep 600"),
	}}
	path := h.template(t, spec)
	edit(t, path, `"vmSize": "Standard_B1ms"`, `"vmSize": "Standard_B1ms", "vnetConfig": {"subnetId": "/subscriptions/<subscriptionID>/resourceGroups/vm-vnet/providers/Microsoft.Network/virtualNetworks/v/subnets/build"}`)
	// Without one of the two rights that the permissions document lists nothing
	// boots; with exactly these the network is used.
	const read, join = "Microsoft.Network/virtualNetworks/read", "Microsoft.Network/virtualNetworks/subnets/join/action"
	for missing, granted := range map[string]string{read: join, join: read} {
		h.grantOnly(t, "vm-vnet", granted)
		r := h.run(t, "build", path, "--strict", "--progress", "plain")
		said := r.stdout + r.stderr
		if r.code != 1 || !strings.Contains(said, missing) || strings.Contains(said, granted) || strings.Contains(said, "[start]") {
			t.Errorf("without %s: exit code %d\n%s", missing, r.code, said)
		}
	}
	h.grantOnly(t, "vm-vnet", read, join)
	p := h.build(t, path, archiveEgress(t)...)
	p.await(t, func(e event.Event) bool { return e.Kind == event.StepFinished && e.Step == 1 })
	answers := p.text(1)
	contains(t, answers, "10.77.0.7/24", "default via 10.77.0.6", "database", "refused 169.254.169.254:80", "refused 10.77.0.5:60001")
	p.await(t, saying("waiting"))
	contains(t, p.text(2), "fetched from the archive")
	for _, e := range p.all(func(e event.Event) bool {
		return strings.Contains(e.Text, "granted \"Azure Image Builder Service Networking Role")
	}) {
		t.Errorf("the build gave itself more: %s", e.Text)
	}
	contains(t, h.must(t, "check", path), "Nothing is missing")
	drawn := h.must(t, "network", "show", p.run(t))
	contains(t, drawn, "private link service", "load balancer", "proxy vm", "[healthy]", "tcp 60001", "tcp 22", "connection tcp")
	p.interruptAndWait(t)

	// The checklist stops the next one before a machine.
	h.must(t, "network", "put", vnetFile(t, "Enabled"))
	r := h.run(t, "build", path)
	if r.code == 0 || !strings.Contains(r.stderr+r.stdout, "--disable-private-link-service-network-policies true") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// archiveProbe fetches something over the build VM's way out.
const archiveProbe = `sudo apt-get update -q >/dev/null && echo "fetched from the archive"`

// edit replaces text in a file once.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	text := readAll(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%s has no %s", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}
