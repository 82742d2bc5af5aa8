package build_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/run"
)

// failure is what the last event of a run says about its end.
func failure(events *buildtest.Recording) event.Failure {
	all := events.Events()
	if len(all) == 0 || all[len(all)-1].Err == nil {
		return event.Failure{}
	}
	return *all[len(all)-1].Err
}

// A request that cannot be built is refused before a machine is used, and no run
// is left.
func TestSubmissionRefused(t *testing.T) {
	const sig = "sv=2021-01-01&sig=ThisIsTheSecretSignature"
	zeros := strings.Repeat("0", 64)
	web := artifacttest.New(t)
	web.Put("/script.sh", artifacttest.File{Body: []byte("echo hi\n")})
	web.Put("/slow", artifacttest.File{Body: []byte("echo slow\n")})
	web.Fail("/big", artifacttest.Endless(10<<30))
	web.Fail("/endless", artifacttest.Endless(0))
	web.Fail("/slow", artifacttest.Stall(0), artifacttest.Stall(0))
	uri := func(path string) func(*buildtest.Lab) buildtest.Template {
		return func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", web.URL+path+"?"+sig, "")}}
		}
	}
	for _, tc := range []struct {
		name     string
		template func(*buildtest.Lab) buildtest.Template
		source   func(l *buildtest.Lab) string
		code     arm.Code
		want     string
	}{
		{name: "unreachable host", code: arm.CodeFetchFailed, want: "/properties/customize/0", template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", "http://127.0.0.1:1/x.sh?"+sig, "")}}
		}},
		{name: "forbidden address", code: arm.CodeFetchRefused, want: "--allow-fetch", template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", "http://169.254.169.254/x.sh?"+sig, "")}}
		}},
		{name: "not found", code: arm.CodeFetchFailed, want: "404", template: uri("/nothing")},
		{name: "wrong sha256", code: arm.CodeDigestMismatch, want: zeros, template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", web.URL+"/script.sh?"+sig, zeros)}}
		}},
		{name: "10 GB announced", code: arm.CodeTooLarge, template: uri("/big")},
		{name: "no end", code: arm.CodeTooLarge, template: uri("/endless")},
		{name: "nothing comes", code: arm.CodeFetchFailed, template: uri("/slow")},
		{name: "missing file", code: arm.CodeFetchFailed, template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", "./missing.sh", "")}}
		}},
		{name: "Windows customizer", code: arm.CodeNotSupported, want: "PowerShell", template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{Customize: []buildtest.Object{{"type": "PowerShell", "name": "p", "inline": []string{"dir"}}}}
		}},
		{name: "unknown size", code: arm.CodeValidationFailed, want: "Standard_D2s_v3", template: func(*buildtest.Lab) buildtest.Template {
			return buildtest.Template{VMProfile: buildtest.Object{"vmSize": "Standard_D2s_v33"}}
		}},
		{name: "existing version", code: arm.CodeConflict, want: "exists already", template: func(l *buildtest.Lab) buildtest.Template {
			t := buildtest.Template{Distribute: []buildtest.Object{l.ToGallery("golden", "/versions/1.0.0", nil)}}
			if _, _, err := l.Build(l.Context(), l.Request("before", t)); err != nil {
				l.Fatal(err)
			}
			return t
		}},
		{name: "wrong generation", code: arm.CodeConflict, want: "generation 2", template: func(l *buildtest.Lab) buildtest.Template {
			l.PutDefinition("golden", "V1")
			return buildtest.Template{Distribute: []buildtest.Object{l.ToGallery("golden", "", nil)}}
		}},
		{name: "other location", code: arm.CodeConflict, want: "same location", template: func(l *buildtest.Lab) buildtest.Template {
			if _, _, err := l.Build(l.Context(), l.Request("moved", buildtest.Template{})); err != nil {
				l.Fatal(err)
			}
			target := l.ToImage("moved")
			target["location"] = "eastus"
			return buildtest.Template{Distribute: []buildtest.Object{target}}
		}},
		{name: "source is not there", code: arm.CodeNotFound, want: "resolve the source", template: func(l *buildtest.Lab) buildtest.Template {
			return buildtest.Template{Source: buildtest.Object{"type": "ManagedImage", "imageId": l.ID("Microsoft.Compute/images/none")}}
		}},
		{name: "no version is the latest", code: arm.CodeNotFound, want: "latest", template: func(l *buildtest.Lab) buildtest.Template {
			return buildtest.Template{Source: buildtest.Object{"type": "SharedImageVersion", "imageVersionId": l.ID("Microsoft.Compute/galleries/g/images/i/versions/latest")}}
		}},
		{name: "unknown --source", code: arm.CodeUsage, want: "neither a file", source: func(*buildtest.Lab) string { return "nonsense" }},
		{name: "backing file", code: arm.CodeMalformedImage, source: func(l *buildtest.Lab) string { return l.HostileImage("/etc/passwd", 1<<20) }},
		{name: "absurd size", code: arm.CodeMalformedImage, source: func(l *buildtest.Lab) string { return l.HostileImage("", 1<<55) }},
		{name: "cut short", code: arm.CodeMalformedImage, source: func(l *buildtest.Lab) string { return l.File("cut.qcow2", "QFI\xfb\x00\x00\x00\x03") }},
		{name: "empty", code: arm.CodeMalformedImage, source: func(l *buildtest.Lab) string { return l.File("empty.raw", "") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := buildtest.New(t, func(c *build.Config) { c.Fetch.Stall = 200 * time.Millisecond; c.Fetch.MaxBytes = 1 << 20 })
			var template buildtest.Template
			if tc.template != nil {
				template = tc.template(l)
			}
			req := l.Request("refused", template)
			if tc.source != nil {
				req.Source = tc.source(l)
			}
			before, calls := l.Everything(), len(l.Fake.Calls())
			rec, events, err := l.Build(t.Context(), req)
			if err == nil {
				t.Fatalf("it was built:\n%s", events.Text())
			}
			if !arm.IsCode(err, tc.code) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v; want %s with %q", arm.CodeOf(err), err, tc.code, tc.want)
			}
			if text := events.Text() + err.Error(); strings.Contains(text, "ThisIsTheSecret") {
				t.Errorf("the signature is shown:\n%s", text)
			}
			if len(l.Fake.Calls()) != calls {
				t.Errorf("a machine was used: %v", l.Fake.Calls()[calls:])
			}
			if rec.ID != "" {
				t.Errorf("there is a run: %+v", rec)
			}
			l.CheckClean(rec)
			if diff := cmp.Diff(before, l.Everything()); diff != "" {
				t.Errorf("the refused request changed (-before +after):\n%s", diff)
			}
		})
	}
}

// command is a script that reacts when a customizer's text has word in it.
func command(word string, react func(ctx context.Context, g *buildtest.Guest) int) buildtest.Script {
	return buildtest.Script{Command: func(ctx context.Context, g *buildtest.Guest, _, text string) (int, bool) {
		if !strings.Contains(text, word) {
			return 0, false
		}
		return react(ctx, g), true
	}}
}

// What goes wrong during a run ends it in order: the right code, the failing
// step, a hint, and nothing left.
func TestRunFails(t *testing.T) {
	const word = "do the deed"
	full := arm.Errorf(arm.CodeNoSpace, "no space left on the host")
	for _, tc := range []struct {
		name    string
		script  buildtest.Script
		setup   func(l *buildtest.Lab)
		option  buildtest.Option
		inline  string
		code    arm.Code
		want    string
		hint    string
		step    string
		minutes time.Duration
	}{
		{name: "script exits 3", inline: "echo before; exit 3", code: arm.CodeStepFailed, want: "the script exited with status 3", step: "deed"},
		{name: "command is not there", inline: "no-such-command", code: arm.CodeStepFailed, want: "status 127 (command not found", step: "deed"},
		{name: "sshd is killed", inline: word, code: arm.CodeGuestLost, want: "connection to the guest broke", hint: "stops sshd", step: "deed",
			script: command(word, func(ctx context.Context, g *buildtest.Guest) int { g.Drop(); <-ctx.Done(); return 1 })},
		{name: "guest powers off", inline: word, code: arm.CodeMachine, want: "the guest powered off", hint: "powers off or reboots", step: "deed",
			script: command(word, func(ctx context.Context, g *buildtest.Guest) int { g.Board.PowerOff(); <-ctx.Done(); return 1 })},
		{name: "machine dies", inline: word, code: arm.CodeMachine, want: "qemu is gone", step: "deed",
			script: command(word, func(ctx context.Context, g *buildtest.Guest) int {
				g.Board.Crash(errors.New("qemu is gone"))
				<-ctx.Done()
				return 1
			})},
		{name: "host's disk fills up", inline: word, code: arm.CodeNoSpace, want: "no space left", hint: "free space", step: "deed",
			script: command(word, func(ctx context.Context, g *buildtest.Guest) int { g.Board.Crash(full); <-ctx.Done(); return 1 })},
		{name: "host's disk is full at boot", inline: "true", code: arm.CodeNoSpace, hint: "free space",
			setup: func(l *buildtest.Lab) { l.Fake.FailOn(machinetest.Start, full) }},
		{name: "host's disk is full at the seal", inline: "true", code: arm.CodeNoSpace, hint: "free space",
			setup: func(l *buildtest.Lab) { l.Fake.FailOn(machinetest.Seal, full) }},
		{name: "guest is never ready", inline: "true", code: arm.CodeGuestNotReady, want: "guest: kernel panic",
			option: func(c *build.Config) { c.BootTimeout = 300 * time.Millisecond },
			script: buildtest.Script{Helper: func(ctx context.Context, g *buildtest.Guest, op protocol.Op) error {
				if op == protocol.OpReady {
					g.Board.Print("guest: kernel panic\n")
					<-ctx.Done()
				}
				return nil
			}}},
		{name: "guest dies while it boots", inline: "true", code: arm.CodeGuestNotReady, want: "guest: kernel panic",
			script: buildtest.Script{Helper: func(ctx context.Context, g *buildtest.Guest, op protocol.Op) error {
				if op == protocol.OpReady {
					g.Board.Print("guest: kernel panic\n")
					g.Board.PowerOff()
					<-ctx.Done()
				}
				return nil
			}}},
		{name: "no hypervisor", inline: "true", code: arm.CodeMissingTool, want: "qemu-system-x86_64",
			option: func(c *build.Config) {
				c.Hypervisor = func(context.Context) (machine.Hypervisor, string, error) {
					return nil, "", arm.Errorf(arm.CodeMissingTool, "qemu-system-x86_64 is not installed")
				}
			}},
		{name: "generalisation fails", inline: "true", code: arm.CodeGuestNotReady, want: "generalize the guest",
			script: buildtest.Script{Helper: func(_ context.Context, _ *buildtest.Guest, op protocol.Op) error {
				if op == protocol.OpGeneralise {
					return errors.New("read-only file system")
				}
				return nil
			}}},
		{name: "deprovisioning script fails", inline: "printf '#!/bin/sh\\nexit 9\\n' > tmp/DeprovisioningScript.sh", code: arm.CodeStepFailed, want: "exit status 9"},
		{name: "guest does not power off", inline: "true", code: arm.CodeMachine, want: "did not power off within",
			option: func(c *build.Config) { c.PowerOffTimeout = 200 * time.Millisecond },
			script: buildtest.Script{KeepOn: true}},
		{name: "time is up", inline: word, code: arm.CodeTimeout, want: "Timeout waiting for microservice", hint: "buildTimeoutInMinutes", step: "deed", minutes: 250 * time.Millisecond,
			script: command(word, func(ctx context.Context, _ *buildtest.Guest) int { <-ctx.Done(); return 1 })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var options []buildtest.Option
			if tc.option != nil {
				options = append(options, tc.option)
			}
			if tc.minutes != 0 {
				options = append(options, func(c *build.Config) { c.Minute = tc.minutes })
			}
			l := buildtest.New(t, options...)
			l.SetScript(tc.script)
			if tc.setup != nil {
				tc.setup(l)
			}
			out := filepath.Join(l.Scratch, "out")
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
			req := l.Request("fails", buildtest.Template{Minutes: 6, Customize: []buildtest.Object{buildtest.Shell("deed", tc.inline), buildtest.Shell("never", "echo never")}})
			req.Outputs = []string{filepath.Join(out, "x.raw")}
			rec, events, err := l.Build(t.Context(), req)
			if err == nil || rec.State != run.Failed {
				t.Fatalf("%v: %s %s\n%s", err, rec.State, rec.Message, events.Text())
			}
			f := failure(events)
			if f.Code != tc.code || !strings.Contains(f.Message, tc.want) || !strings.Contains(f.Hint, tc.hint) {
				t.Errorf("the run ends with %+v\nwant %s, %q, hint %q", f, tc.code, tc.want, tc.hint)
			}
			if tc.step == "" && strings.Contains(f.Hint, "script") {
				t.Errorf("the hint blames a script outside the steps: %s", f.Hint)
			}
			if rec.FailedStep != tc.step {
				t.Errorf("failed step %q, want %q", rec.FailedStep, tc.step)
			}
			if tc.step != "" && events.Has(event.StepStarted, "never") {
				t.Error("the step after the failed one was run")
			}
			l.CheckClean(rec)
			if files := l.Files(out); len(files) > 0 {
				t.Errorf("output files: %v", files)
			}
			if images, err := l.Engine.Images(t.Context()); err != nil || len(images) > 0 {
				t.Errorf("images: %v, %v", images, err)
			}
		})
	}
}

// The image store cannot be written when the disk is captured.
func TestCaptureWithoutSpace(t *testing.T) {
	l := buildtest.New(t)
	tmp := filepath.Join(l.Data, "images", "tmp")
	// A file size limit would end the test too; a store without its scratch
	// directory fails as early.
	l.SetScript(command("full", func(context.Context, *buildtest.Guest) int {
		if err := errors.Join(os.Remove(tmp), os.WriteFile(tmp, nil, 0o400)); err != nil {
			t.Error(err)
		}
		return 0
	}))
	rec, events, err := l.Build(t.Context(), l.Request("full", buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("s", "full")}}))
	if err == nil || rec.State != run.Failed || !strings.Contains(rec.Message, "store the image") {
		t.Errorf("%v: %s %s\n%s", err, rec.State, rec.Message, events.Text())
	}
	if err := errors.Join(os.Remove(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		t.Fatal(err)
	}
	l.CheckClean(rec)
}

// A restored guest that lost its address is asked for the new one.
func TestRestoredGuestLostItsAddress(t *testing.T) {
	l := buildtest.New(t)
	mustBuild(t, l, l.Request("first", buildtest.Template{}))
	l.SetScript(buildtest.Script{Homeless: true})
	_, _, events := mustBuild(t, l, l.Request("second", buildtest.Template{}))
	if !events.Has(event.Decision, "restored the booted base") {
		t.Errorf("not restored:\n%s", events.Text())
	}
}

// A saved state that cannot be restored costs a boot, and says why.
func TestRestoreFails(t *testing.T) {
	for name, spoil := range map[string]func(l *buildtest.Lab){
		"hypervisor refuses": func(l *buildtest.Lab) { l.Fake.FailOn(machinetest.Restore, errors.New("state of another CPU")) },
		"guest is silent": func(l *buildtest.Lab) {
			l.SetScript(buildtest.Script{Helper: func(ctx context.Context, g *buildtest.Guest, op protocol.Op) error {
				if g.Board.Restored && op == protocol.OpIdentify {
					<-ctx.Done()
				}
				return nil
			}})
		},
		"guest dies": func(l *buildtest.Lab) {
			l.SetScript(buildtest.Script{Helper: func(ctx context.Context, g *buildtest.Guest, op protocol.Op) error {
				if g.Board.Restored && op == protocol.OpIdentify {
					g.Board.Crash(errors.New("triple fault"))
					<-ctx.Done()
				}
				return nil
			}})
		},
		"state is not saved": func(l *buildtest.Lab) { l.Fake.FailOn(machinetest.Save, errors.New("migration failed")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := buildtest.New(t, func(c *build.Config) { c.RestoreTimeout = 500 * time.Millisecond })
			spoil(l)
			rec, events, err := l.Build(t.Context(), l.Request("cold", buildtest.Template{}))
			if err != nil || rec.State != run.Succeeded {
				t.Fatalf("%v\n%s", err, events.Text())
			}
			l.CheckClean(rec)
			if !events.Has(event.Decision, "cold boot: ") {
				t.Errorf("no event says why:\n%s", events.Text())
			}
			image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"boot", "script_1.sh: echo hello", "generalise"}, l.Journal(image.Content.Image)); diff != "" {
				t.Errorf("the image (-want +got):\n%s", diff)
			}
		})
	}
}
