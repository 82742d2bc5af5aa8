//go:build vm

package az

import (
	"os/exec"
	"strings"
)

// blobs works with the blobs of an account by az's own commands: signed with its
// key, and signed in. The account is in the path of its address, because its name
// does not resolve.
func (s *service) blobs(account string) {
	s.t.Helper()
	s.file("build.sh", "echo building\n")
	key := strings.TrimSpace(s.sh("az storage account keys list --account-name " + account + " --query '[0].value' --output tsv"))
	for _, m := range []struct{ name, flags string }{{"key", "--auth-mode key --account-key " + key}, {"login", "--auth-mode login"}} {
		common := " --account-name " + account + " --blob-endpoint " + s.url + "/" + account + " " + m.flags
		if m.name == "login" {
			_, said, err := s.try("az storage blob list --container-name by-key" + common)
			if err == nil || !strings.Contains(said, "required permissions") {
				s.t.Errorf("a list without the right: %v %s", err, said)
			}
			s.sh("az role assignment create --assignee " + s.app + ` --role "Storage Blob Data Contributor" --scope "$(az storage account show --name ` + account + ` --query id --output tsv)"`)
		}
		in := " --container-name by-" + m.name
		said := s.sh("az storage container create --name by-" + m.name + common + ` --output none
az storage blob upload --type block --file build.sh --name dir/build.sh` + in + common + ` --output none
az storage blob list` + in + common + ` --query '[].name' --output tsv
az storage blob download --name dir/build.sh --file got.sh` + in + common + ` --output none
cmp build.sh got.sh
az storage blob delete --name dir/build.sh` + in + common + `
az storage blob exists --name dir/build.sh` + in + common + ` --query exists --output tsv
az storage container list` + common + ` --query '[].name' --output tsv`)
		if !strings.HasPrefix(said, "dir/build.sh\nfalse\n") || !strings.Contains(said, "\nby-"+m.name+"\n") {
			s.t.Errorf("%s: %s", m.name, said)
		}
	}
	out, err := exec.Command(binary, "audit", "--data", s.data, "--principal", account+"/key1", "--json").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"why":"PUT blob, account key"`) || strings.Contains(string(out), key) {
		s.t.Errorf("the audit of the key: %v %s", err, out)
	}
}
