//go:build vm

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/event"
	"goldsmith/internal/image/vhd"
)

// TestExamples builds examples/hello-linux with every kind of customizer, target
// and file, boots and examines the result, and then builds
// examples/gallery-to-gallery from the gallery version of the first.
func TestExamples(t *testing.T) {
	h := shared(t)
	out := t.TempDir()
	t.Cleanup(func() { _ = h.run(t, "template", "delete", "hello-linux") })
	t.Cleanup(func() { h.deleteImages(t, h.group(t)+"/") })
	set := []string{"--set", "region=westus2", "--set", "rgName=vm-test"}
	args := slices.Clone(set)
	formats := map[string]string{"vhd": "vpc", "qcow2": "qcow2", "vhdx": "vhdx", "vmdk": "vmdk", "raw": "raw"}
	for extension := range formats {
		args = append(args, "--output", filepath.Join(out, "hello."+extension))
	}
	p := h.build(t, filepath.Join("..", "..", "examples", "hello-linux", "template.json"), args...)
	p.ends(t, 0)
	first := p.await(t, ofKind(event.StepStarted))
	t.Logf("first step %v after the start of the command", first.Time.Sub(p.began).Round(millisecond))
	raw := filepath.Join(out, "hello.raw")

	t.Run("events", func(t *testing.T) { checkOrder(t, p) })
	t.Run("log", func(t *testing.T) {
		log := h.must(t, "runs", "logs", p.run(t))
		contains(t, log, "hello.service starts at boot", "run "+p.run(t)+" ended: Succeeded")
	})
	t.Run("files", func(t *testing.T) {
		_, size := allocated(t, raw)
		for extension, format := range formats {
			checkDiskFile(t, filepath.Join(out, "hello."+extension), format, raw, size)
		}
		occupied, length := allocated(t, filepath.Join(out, "hello.vhd"))
		if body := length - vhd.FooterSize; body%(1<<20) != 0 || body != size {
			t.Errorf("the VHD has %d bytes before its footer, want %d, a multiple of 1 MiB", body, size)
		}
		if occupied > size/2 {
			t.Errorf("the VHD of a mostly empty disk occupies %d of %d bytes", occupied, length)
		}
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(formats) {
			t.Errorf("%d files are there, want %d: %v", len(entries), len(formats), entries)
		}
	})
	t.Run("residue", func(t *testing.T) { checkResidue(t, raw, h.baseDisk(t), p.run(t)) })
	t.Run("boot", func(t *testing.T) {
		r := h.boot(t, h.group(t)+"/providers/Microsoft.Compute/images/hello-linux", `
			set -e
			cat /srv/hello/index.html
			systemctl is-enabled hello.service
			systemctl is-active hello.service
			exit 7`)
		if r.code != 7 {
			t.Errorf("exit code %d, want the command's own 7\n%s", r.code, r.stderr)
		}
		contains(t, r.stdout, "Hello from a golden image, made from Debian GNU/Linux 12 (bookworm).\nenabled\nactive\n")
	})
	t.Run("gallery to gallery", func(t *testing.T) {
		t.Cleanup(func() { _ = h.run(t, "template", "delete", "gallery-to-gallery") })
		p := h.build(t, filepath.Join("..", "..", "examples", "gallery-to-gallery", "template.json"), set...)
		p.ends(t, 0)
		version := h.group(t) + "/providers/Microsoft.Compute/galleries/golden/images/hello-second/versions/1.0.1"
		r := h.boot(t, version, "cat /srv/hello/index.html /srv/hello/second.html")
		if r.code != 0 {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		contains(t, r.stdout, "Hello from a golden image", "A second layer of gold.")
	})
}

// checkOrder checks the events of a build that succeeded: offsets without gaps,
// phases and steps in order and each ended, and the end last.
func checkOrder(t *testing.T, p *process) {
	t.Helper()
	events, _ := p.seen()
	var got []string
	for i, e := range events {
		if e.Offset != int64(i) {
			t.Errorf("event %d has offset %d", i, e.Offset)
		}
		if e.Err != nil {
			t.Errorf("event %d fails: %s", i, e.Err.Message)
		}
		switch e.Kind {
		case event.PhaseStarted, event.PhaseFinished:
			got = append(got, fmt.Sprint(e.Kind, " ", e.Phase))
		case event.StepStarted, event.StepFinished:
			got = append(got, fmt.Sprint(e.Kind, " ", e.Step, " ", e.StepName))
		case event.RunStarted, event.RunFinished:
			got = append(got, fmt.Sprint(e.Kind, " ", e.State))
		}
	}
	want := []string{
		"phase.started submit", "phase.finished submit", "run.started ",
		"phase.started prepare", "phase.finished prepare", "phase.started start", "phase.finished start",
		"phase.started customize",
		"step.started 1 write the page", "step.finished 1 write the page",
		"step.started 2 bring the service", "step.finished 2 bring the service",
		"step.started 3 install the service", "step.finished 3 install the service",
		"phase.finished customize",
		"phase.started generalize", "phase.finished generalize", "phase.started capture", "phase.finished capture",
		"phase.started distribute", "phase.finished distribute", "phase.started export", "phase.finished export",
		"phase.started cleanup", "phase.finished cleanup", "run.finished Succeeded",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
