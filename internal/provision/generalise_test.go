package provision_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/guest/guesttest"
	"goldsmith/internal/guest/ssh"
	"goldsmith/internal/provision"
)

func TestDeprovision(t *testing.T) {
	for name, c := range map[string]struct {
		script  string // "" removes it, "default" leaves what was placed
		waagent bool
		out     string
		warning string
		code    arm.Code
	}{
		"own script":         {"echo own", false, "own\n", "", ""},
		"own with a shebang": {"#!/bin/sh\necho \"$0\" | sed 's/.*Depro/Depro/'", true, "DeprovisioningScript.sh\n", "", ""},
		"failing":            {"exit 4", true, "", "", arm.CodeStepFailed},
		"removed":            {"", true, "", "Deprovisioning script [/tmp/DeprovisioningScript.sh] could not be found.", ""},
		"no agent":           {"default", false, "", "has no Azure agent", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o755); err != nil {
				t.Fatal(err)
			}
			server, err := guesttest.New(guesttest.Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			conn, err := server.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			session, err := ssh.Connect(t.Context(), conn, ssh.Config{User: "build", Key: server.UserKey(), HostKey: server.HostKey()})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			placed := filepath.Join(dir, "tmp", "DeprovisioningScript.sh")
			if err := os.WriteFile(placed, []byte(provision.DefaultDeprovision), 0o755); err != nil {
				t.Fatal(err)
			}
			switch c.script {
			case "":
				err = os.Remove(placed)
			case "default":
			default:
				err = os.WriteFile(placed, []byte(c.script), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			var warnings []string
			sink := event.SinkFunc(func(e event.Event) { warnings = append(warnings, e.Text) })
			err = provision.Deprovision(t.Context(), session, c.waagent, sink, &out, io.Discard)
			if arm.CodeOf(err) != c.code {
				t.Errorf("%v", err)
			}
			if out.String() != c.out {
				t.Errorf("output %q, want %q", out.String(), c.out)
			}
			if got := strings.Join(warnings, "; "); !strings.Contains(got, c.warning) || (c.warning == "") != (got == "") {
				t.Errorf("warnings %q", got)
			}
		})
	}
}
