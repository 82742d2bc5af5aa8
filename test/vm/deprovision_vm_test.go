//go:build vm

package vm

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDeprovisionOverride replaces the deprovisioning script by a customizer. The
// replacement runs as root instead of the default, and the builder's own clean-up
// comes after it all the same.
func TestDeprovisionOverride(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	raw := filepath.Join(t.TempDir(), "override.raw")
	p := h.build(t, h.template(t, templateSpec{Name: "vm-override", Customize: []step{
		shell("own script", "cat >/tmp/DeprovisioningScript.sh <<'END'\necho overridden\nid -u >/etc/deprovisioned-by\nEND"),
	}}), "--output", raw)
	p.ends(t, 0)
	p.await(t, saying("overridden"))
	p.await(t, deciding("restored the booted base"))
	root := extract(t, rootPartition(t, raw))
	if by, err := os.ReadFile(filepath.Join(root, "etc/deprovisioned-by")); err != nil || string(by) != "0\n" {
		t.Errorf("the script ran as %q, %v; want user 0", by, err)
	}
	checkResidue(t, raw, h.baseDisk(t), p.run(t))
}
