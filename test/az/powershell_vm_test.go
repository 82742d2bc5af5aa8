//go:build vm

package az

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// powershell makes the requests that the cmdlets of the document's PowerShell
// blocks make. The cmdlets themselves are not run.
func (s *service) powershell() {
	s.t.Helper()
	known := map[string]func(){
		"Register-AzProviderFeature": func() {
			s.call(http.MethodPost, "/providers/Microsoft.Features/providers/Microsoft.VirtualMachineImages/features/VirtualMachineTemplatePreview/register?api-version=2021-07-01", nil, 200)
		},
		"aibRoleImageCreation.json": func() { s.newRole("PowerShell image role", "distribution", "Microsoft.Compute/images/write") },
		"aibRoleNetworking.json": func() {
			s.newRole("PowerShell network role", "network", "Microsoft.Network/virtualNetworks/subnets/join/action")
		},
	}
	proved := 0
	for _, b := range blocks(s.t, "permissions.md") {
		if b.language != "powershell" {
			continue
		}
		for mark, requests := range known {
			if strings.Contains(b.text, mark) {
				requests()
				proved++
				s.t.Logf("%s: cmdlet not run; its requests are answered as it needs", mark)
			}
		}
	}
	if proved != len(known) {
		s.t.Errorf("%d of the document's PowerShell blocks are proved, not %d", proved, len(known))
	}
}

// newRole makes the requests of New-AzRoleDefinition -InputFile and
// New-AzRoleAssignment -ObjectId.
func (s *service) newRole(name, group, action string) {
	s.t.Helper()
	scope := "/subscriptions/" + s.subscription + "/resourceGroups/" + group
	roles := "/resourceGroups/" + group + "/providers/Microsoft.Authorization/roleDefinitions"
	s.call(http.MethodPut, roles+"/"+uuid.NewString()+"?api-version=2022-04-01", map[string]any{"properties": map[string]any{
		"roleName": name, "type": "CustomRole", "description": "x", "assignableScopes": []string{scope},
		"permissions": []any{map[string]any{"actions": []string{action}, "notActions": []string{}}},
	}}, 201)
	found := s.call(http.MethodGet, roles+"?$filter="+url.QueryEscape("roleName eq '"+name+"'")+"&api-version=2022-04-01", nil, 200)
	id := found["value"].([]any)[0].(map[string]any)["id"].(string)
	s.call(http.MethodPut, "/resourceGroups/"+group+"/providers/Microsoft.Authorization/roleAssignments/"+uuid.NewString()+"?api-version=2022-04-01",
		map[string]any{"properties": map[string]any{"roleDefinitionId": id, "principalId": builderObject, "principalType": "ServicePrincipal"}}, 201)
}

// call sends a request below the subscription as the administrator.
func (s *service) call(method, path string, body any, want int) map[string]any {
	s.t.Helper()
	token := strings.TrimSpace(s.sh("az account get-access-token --query accessToken --output tsv"))
	ca, err := os.ReadFile(filepath.Join(s.data, "tls", "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/subscriptions/"+s.subscription+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != want {
		s.t.Fatalf("%s %s: %s, not %d: %v (%v)", method, path, resp.Status, want, answer, err)
	}
	return answer
}
