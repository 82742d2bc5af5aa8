//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"goldsmith/internal/event"
)

// vnetFile has the networks "vm-vnet/v" and "vm-vnet/silo". The security group of
// their subnets denies everything but what the checklist asks for. v has a subnet
// "build" for builds with a proxy VM, and "machines" and "containers" for isolated
// ones.
func vnetFile(t *testing.T, policies string) string {
	t.Helper()
	const scope = "/subscriptions/<subscriptionID>/resourceGroups/vm-vnet/providers/Microsoft.Network/"
	rule := func(name string, priority int, access, from, to, ports string) map[string]any {
		return map[string]any{"name": name, "properties": map[string]any{
			"priority": priority, "direction": "Inbound", "access": access, "protocol": "*", "sourceAddressPrefix": from,
			"sourcePortRange": "*", "destinationAddressPrefix": to, "destinationPortRange": ports,
		}}
	}
	subnet := func(name, prefix string, more map[string]any) map[string]any {
		props := map[string]any{"addressPrefix": prefix, "networkSecurityGroup": map[string]any{"id": scope + "networkSecurityGroups/g"}}
		for k, v := range more {
			props[k] = v
		}
		return map[string]any{"name": name, "properties": props}
	}
	network := func(name, prefix string, subnets ...any) map[string]any {
		return map[string]any{"id": scope + "virtualNetworks/" + name, "type": "Microsoft.Network/virtualNetworks", "location": "westus2",
			"properties": map[string]any{"addressSpace": map[string]any{"addressPrefixes": []string{prefix}}, "subnets": subnets}}
	}
	link := map[string]any{"privateLinkServiceNetworkPolicies": policies}
	text, err := json.Marshal([]any{
		map[string]any{"id": scope + "networkSecurityGroups/g", "type": "Microsoft.Network/networkSecurityGroups", "location": "westus2",
			"properties": map[string]any{"securityRules": []any{
				rule("balancer", 400, "Allow", "AzureLoadBalancer", "VirtualNetwork", "60000-60001"),
				rule("ssh", 401, "Allow", "VirtualNetwork", "VirtualNetwork", "22"),
				rule("deny", 4096, "Deny", "*", "*", "*"),
			}}},
		network("v", "10.77.0.0/16", subnet("build", "10.77.0.0/24", link), subnet("machines", "10.77.1.0/24", nil),
			subnet("containers", "10.77.2.0/24", map[string]any{"delegations": []any{map[string]any{
				"name": "aci", "properties": map[string]any{"serviceName": "Microsoft.ContainerInstance/containerGroups"},
			}}})),
		network("silo", "10.78.0.0/16", subnet("build", "10.78.0.0/24", link)),
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

// subnetID is a subnet of vnetFile.
func subnetID(network, subnet string) string {
	return "/subscriptions/<subscriptionID>/resourceGroups/vm-vnet/providers/Microsoft.Network/virtualNetworks/" + network + "/subnets/" + subnet
}

// on writes a template that builds on a subnet of vnetFile. Its first step shows
// that the guest is up, and waits for the gate; the second tries to reach all.
func (h host) on(t *testing.T, name, vnetConfig string, all []reach) string {
	t.Helper()
	path := h.template(t, templateSpec{Name: name, Customize: []step{
		shell("up", "ip -4 -brief address; ip route; echo up", `timeout 600 bash -c "exec 3<>/dev/tcp/gate.corp/5433; head -n1 <&3"`),
		shell("reach", archive+matrix(all)),
		shell("wait", "echo waiting; sleep 600"),
	}})
	edit(t, path, `"vmSize": "Standard_B1ms"`, `"vmSize": "Standard_B1ms", "vnetConfig": `+vnetConfig)
	return path
}

// TestExistingNetwork builds on networks of the user's, with exactly the rights
// that takes: over private link, load balancer and a real proxy VM, isolated, and
// siloed. It looks from inside each and at the traffic, and takes a proxy VM away.
func TestExistingNetwork(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	h.must(t, "network", "put", vnetFile(t, "Disabled"))
	gate := make(chan struct{})
	database, gated := publish(t, "database", nil), publish(t, "open", gate)
	for name, prefix := range map[string]string{"v": "10.77.0.", "silo": "10.78.0."} {
		h.must(t, "network", "expose", "--vnet", "vm-vnet/"+name, "--at", prefix+"50:5432", "--target", database.Addr().String(), "--name", "db.corp")
		h.must(t, "network", "expose", "--vnet", "vm-vnet/"+name, "--at", prefix+"51:5433", "--target", gated.Addr().String(), "--name", "gate.corp")
	}
	h.must(t, "network", "egress", "--vnet", "vm-vnet/silo", "--siloed")
	contains(t, h.must(t, "network", "check", "--vnet", "vm-vnet/v", "--from", "AzureLoadBalancer", "--to", "10.77.0.6", "--port", "60001"), "allowed by rule balancer")

	exposed := reach{name: "the exposed service", at: "db.corp:5432", speaks: "database", open: true}
	insideProxied := append(hostTargets(t, "10.77.0.1"), exposed, outside(true),
		reach{name: "the load balancer", at: "10.77.0.5:60001", speaks: "SSH"},
		reach{name: "the other build's machine", at: "10.77.1.4:22"},
		reach{name: "the other build's builder", at: "10.77.2.4:22"})
	insideIsolated := append(hostTargets(t, "10.77.1.1"), exposed, outside(true),
		reach{name: "the other build's machine", at: "10.77.0.7:22"},
		reach{name: "the other build's proxy vm", at: "10.77.0.6:60001"})
	insideSilo := append(hostTargets(t, "10.78.0.1"), exposed, outside(false),
		reach{name: "the network it is no peer of", at: "10.77.0.50:5432"})
	proxied := h.on(t, "vm-vnet", `{"subnetId": "`+subnetID("v", "build")+`"}`, insideProxied)
	isolated := h.on(t, "vm-isolated", `{"subnetId": "`+subnetID("v", "machines")+`", "containerInstanceSubnetId": "`+subnetID("v", "containers")+`"}`, insideIsolated)
	edit(t, isolated, `"apiVersion": "2022-07-01"`, `"apiVersion": "2024-02-01"`)
	siloed := h.on(t, "vm-silo", `{"subnetId": "`+subnetID("silo", "build")+`"}`, insideSilo)

	// Without one of the two rights that the permissions document lists nothing
	// boots; with exactly these the network is used.
	const read, join = "Microsoft.Network/virtualNetworks/read", "Microsoft.Network/virtualNetworks/subnets/join/action"
	for missing, granted := range map[string]string{read: join, join: read} {
		h.grantOnly(t, "vm-vnet", granted)
		r := h.run(t, "build", proxied, "--strict", "--progress", "plain")
		said := r.stdout + r.stderr
		if r.code != 1 || !strings.Contains(said, missing) || strings.Contains(said, granted) || strings.Contains(said, "[start]") {
			t.Errorf("without %s: exit code %d\n%s", missing, r.code, said)
		}
	}
	h.grantOnly(t, "vm-vnet", read, join)
	contains(t, h.must(t, "check", proxied), "Nothing is missing")

	// Two builds of one network at once: each has its addresses, and neither sees
	// the other.
	p := h.build(t, proxied, archiveEgress(t)...)
	p.await(t, deciding("restored the booted base"))
	p.await(t, saying("up"))
	contains(t, p.text(1), "10.77.0.7/24", "default via 10.77.0.6")
	q := h.build(t, isolated, archiveEgress(t)...)
	q.await(t, saying("up"))
	contains(t, q.text(1), "10.77.1.4/24", "default via 10.77.1.1")
	recorded := h.capture(t, p.run(t))
	close(gate)
	for _, b := range []*process{p, q} {
		b.await(t, saying("waiting"))
		for _, e := range b.all(deciding("granted \"Azure Image Builder Service Networking Role")) {
			t.Errorf("the build gave itself more: %s", e.Text)
		}
		// Nothing of this host listens for a guest: no way in but the builder's.
		for _, pid := range append(machines(t, b.run(t)), b.cmd.Process.Pid) {
			for _, socket := range listening(t, pid) {
				t.Errorf("process %d of the build listens: %s", pid, socket)
			}
		}
	}
	checkMatrix(t, "behind the proxy vm", p.text(2), insideProxied)
	checkMatrix(t, "isolated", q.text(2), insideIsolated)
	contains(t, h.must(t, "network", "show", p.run(t)), "private link service", "load balancer", "proxy vm", "[healthy]", "tcp 60001", "tcp 22", "connection tcp")
	drawn := h.must(t, "network", "show", q.run(t))
	contains(t, drawn, "10.77.2.4 in v/containers", "10.77.1.4 in v/machines", "tcp 22", "connection tcp")
	if strings.Contains(drawn, "proxy") {
		t.Errorf("an isolated build has a proxy vm:\n%s", drawn)
	}
	p.interruptAndWait(t)
	checkPath(t, recorded, "10.77.0.4", "10.77.0.5", "10.77.0.6", "10.77.0.7", 60001, 22)
	q.interruptAndWait(t)
	h.checkUndone(t, q.run(t))

	h.goesOnThere(t, proxied)
	losesItsProxy(t, h, siloed, insideSilo)

	// The checklist stops the next one before a machine.
	h.must(t, "network", "put", vnetFile(t, "Enabled"))
	r := h.run(t, "build", proxied)
	if r.code == 0 || !strings.Contains(r.stderr+r.stdout, "--disable-private-link-service-network-policies true") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// losesItsProxy builds in the siloed network, stops the proxy VM, lets it go on and
// ends it: the probe finds out, the build lives through the first and says clearly
// what the second means.
func losesItsProxy(t *testing.T, h host, siloed string, inside []reach) {
	t.Helper()
	r := h.build(t, siloed, archiveEgress(t)...)
	r.await(t, saying("waiting"))
	checkMatrix(t, "siloed", r.text(2), inside)
	healths := func(want ...string) {
		t.Helper()
		var seen []string
		r.await(t, func(e event.Event) bool {
			if e.Kind != event.Topology {
				return false
			}
			for _, state := range []string{"unhealthy", "healthy"} {
				if strings.Contains(e.Text, `"state":"`+state+`"`) && (len(seen) == 0 || seen[len(seen)-1] != state) {
					seen = append(seen, state)
				}
			}
			return slices.Equal(seen, want)
		})
	}
	healths("healthy")
	var proxy int
	for _, pid := range machines(t, r.run(t)) {
		line := readAll(t, fmt.Sprintf("/proc/%d/cmdline", pid))
		if program, rest, _ := strings.Cut(line, "\x00"); strings.Contains(program, "qemu-system") && strings.Contains(rest, "-proxy") {
			proxy = pid
		}
	}
	if proxy == 0 {
		t.Fatal("no process of the proxy vm")
	}
	send := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(proxy, s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGSTOP)
	healths("healthy", "unhealthy")
	send(syscall.SIGCONT)
	healths("healthy", "unhealthy", "healthy")
	send(syscall.SIGKILL)
	r.ends(t, 1)
	end := r.await(t, ofKind(event.RunFinished))
	if end.Err == nil || !strings.Contains(end.Err.Message, "the proxy vm is gone, and with it the builder's way to the build vm") {
		t.Errorf("the end is %+v", end.Err)
	}
	h.checkUndone(t, r.run(t))
}

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
