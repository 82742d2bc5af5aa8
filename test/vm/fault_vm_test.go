//go:build vm

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
)

// TestStepFaults breaks a build from within its guest. People read the output of
// these builds, so the tests do too.
func TestStepFaults(t *testing.T) {
	tests := map[string]struct {
		commands []string
		want     []string // in the output
	}{
		"script fails": {
			[]string{"echo about to fail", "exit 3"},
			[]string{"last output of 2/3 bad", "| about to fail", "in step 2/3 bad", "status 3", "full log: goldsmith"},
		},
		"script kills sshd": {
			[]string{"sudo pkill -9 sshd; sleep 60"},
			[]string{"in step 2/3 bad", "likely cause: the connection to the guest broke", "full log: goldsmith"},
		},
		"script powers off": {
			[]string{"sudo systemctl poweroff; sleep 60"},
			[]string{"in step 2/3 bad", "the guest powered off", "likely cause: the build VM went away during the step", "full log: goldsmith"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := shared(t)
			tmpl := h.template(t, templateSpec{Name: "vm-fault", Customize: []step{
				shell("good", "echo good"), shell("bad", test.commands...), shell("never", "echo never reached"),
			}})
			r := h.run(t, "build", tmpl, "--no-cache")
			if r.code != 1 {
				t.Errorf("exit code %d, want 1", r.code)
			}
			contains(t, r.stdout+r.stderr, test.want...)
			if strings.Contains(r.stdout, "never reached") {
				t.Error("the step after the failed one has run")
			}
			last := h.lastRun(t)
			if last.FailedStep != "bad" {
				t.Errorf("the failed step is %q", last.FailedStep)
			}
			h.checkUndone(t, last.ID)
			if len(h.images(t, "vm-fault")) > 0 {
				t.Error("there is an image")
			}
		})
	}
}

// TestBaseThatNeverBoots has firmware that finds nothing to start.
func TestBaseThatNeverBoots(t *testing.T) {
	h := shared(t)
	const urn = "VmTest:blank:gen2:1.0.0"
	disk := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 256<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "sh", "-c", "printf 'label: gpt\\nsize=64M, type=U\\ntype=L\\n' | sfdisk --quiet "+disk)
	h.must(t, "catalog", "add", urn, "--from", disk, "--generation", "2")
	t.Cleanup(func() { h.must(t, "catalog", "remove", urn) })
	tmpl := h.template(t, templateSpec{
		Name: "vm-blank", Customize: []step{shell("never", "true")},
		Source: map[string]any{"type": "PlatformImage", "publisher": "VmTest", "offer": "blank", "sku": "gen2", "version": "1.0.0"},
	})
	r := h.run(t, "build", tmpl, "--no-cache", "--boot-timeout", "30s")
	if r.code != 1 {
		t.Errorf("exit code %d, want 1", r.code)
	}
	contains(t, r.stdout+r.stderr, "the guest did not become ready within 30s", "last lines of its console", "BdsDxe: ")
	last := h.lastRun(t)
	h.checkUndone(t, last.ID)
	contains(t, h.must(t, "runs", "console", last.ID), "BdsDxe: ")
}

// TestFullDisk runs out of space on the host: while the base is unpacked, while a
// guest's memory is saved, and while the guest writes.
func TestFullDisk(t *testing.T) {
	t.Run("new data directory", func(t *testing.T) {
		data := t.TempDir()
		left := filepath.Join(t.TempDir(), "left")
		h := host{data: data, wrap: inMounts(`
			mount -t tmpfs -o size=350m tmpfs ` + data + `
			"$@" || code=$?
			find ` + data + `/disks ` + data + `/layers ` + data + `/images -name '*.tmp*' -o -path '*/layers/*' -o -path '*/disks/*' >` + left + `
			find ` + data + `/runs -name work >>` + left)}
		r := h.run(t, "build", "--no-cache", writeTemplate(t, t.TempDir(), templateSpec{Name: "vm-full", Customize: []step{shell("never", "true")}}))
		if r.code != 1 {
			t.Errorf("exit code %d, want 1", r.code)
		}
		contains(t, r.stdout+r.stderr, "no space left", "free")
		if names := readAll(t, left); names != "" {
			t.Errorf("left behind:\n%s", names)
		}
	})
	t.Run("during a step", func(t *testing.T) {
		h := shared(t).copied(t) // the layer that it seals goes with the small file system
		left := filepath.Join(t.TempDir(), "left")
		layers, kept := filepath.Join(h.data, "layers"), t.TempDir()
		full := host{data: h.data, wrap: inMounts(`
			mount --bind ` + layers + ` ` + kept + `
			mount -t tmpfs -o size=100m tmpfs ` + layers + `
			for l in ` + kept + `/*; do
				mkdir ` + layers + `/${l##*/}
				mount --bind $l ` + layers + `/${l##*/}
			done
			"$@" || code=$?
			for l in ` + layers + `/*; do test -e ` + kept + `/${l##*/} || echo $l; done >` + left)}
		tmpl := h.template(t, templateSpec{Name: "vm-full", Customize: []step{
			// Long enough that its memory is to be saved, which does not fit.
			shell("work", "timeout 4 sha256sum /dev/zero || true"),
			shell("fill", "head -c 400M /dev/urandom >fill; sync; echo filled"),
		}})
		p := full.build(t, tmpl)
		p.ends(t, 1)
		lost := p.await(t, func(e event.Event) bool {
			return e.Kind == event.Warning && strings.Contains(e.Text, "memory was not saved")
		})
		contains(t, lost.Text, "No space left on device")
		end := p.await(t, ofKind(event.RunFinished))
		if end.Err == nil || end.Err.Code != arm.CodeNoSpace || end.Err.Hint == "" {
			t.Errorf("the end is %+v, want code %s and a hint", end.Err, arm.CodeNoSpace)
		}
		// The step before is sealed and stays: a build with more room goes on from it.
		sealed := ""
		for _, l := range list[[]build.CachedLayer](t, h, "cache", "list") {
			if l.Run == p.run(t) {
				sealed += filepath.Join(layers, l.ID) + "\n"
			}
		}
		if names := readAll(t, left); names != sealed || strings.Count(names, "\n") != 1 {
			t.Errorf("left behind:\n%swant one sealed layer:\n%s", names, sealed)
		}
		h.checkUndone(t, p.run(t))
	})
}

// inMounts wraps a command in a mount namespace of its own, where the script
// runs; it sets code when "$@", the command, fails.
func inMounts(script string) []string {
	flags := "-m"
	if os.Getuid() != 0 {
		flags = "-Urm"
	}
	return []string{"unshare", flags, "--propagation", "private", "sh", "-ec", "code=0\n" + script + "\nexit $code", "sh"}
}

// TestDamagedState cuts the saved state short: the build says so and makes it
// anew, and the next one restores it.
func TestDamagedState(t *testing.T) {
	h := shared(t).copied(t)
	t.Parallel()
	for _, state := range h.states(t) {
		text := readAll(t, state)
		// Another file in its place: this one is the shared directory's, too.
		if err := os.Remove(state); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(state, []byte(text[:len(text)/2]), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	tmpl := h.template(t, templateSpec{Name: "vm-damaged", Customize: []step{shell("wait", "echo begun", "sleep 600")}})
	for _, want := range []string{"is damaged", "restored the booted base"} {
		p := h.build(t, tmpl)
		t.Log(p.await(t, deciding(want)).Text)
		p.await(t, saying("begun"))
		p.interruptAndWait(t)
		h.checkUndone(t, p.run(t))
	}
}
