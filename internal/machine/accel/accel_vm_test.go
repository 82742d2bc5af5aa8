//go:build vm

package accel

import (
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestProbeOnThisHost runs the small guest on the real QEMU: by translation it
// must pass everywhere, and what Probe chooses must have passed.
func TestProbeOnThisHost(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatalf("%v: install qemu-system-x86", err)
	}
	got, err := Probe(t.Context(), Config{QEMU: qemu})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", got)
	last := got.Attempts[len(got.Attempts)-1]
	want := Attempt{Accelerator: got.Accelerator, CPUModel: got.CPUModel, Guest: "probe", Passed: true, Reason: "passed", Millis: last.Millis}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Error(diff)
	}
	tcg, err := boot(t.Context(), Config{QEMU: qemu}, TCG, Portable, probeGuest)
	if err != nil || !tcg.Passed {
		t.Errorf("by translation: %+v, %v", tcg, err)
	}
}
