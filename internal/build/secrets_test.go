package build

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/blob"
	"goldsmith/internal/event"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
)

// A script that prints the address it was fetched from must not publish the
// signature in it.
func TestLogsHideTheSecretsOfARun(t *testing.T) {
	const secret, proxy = "c2lnbmF0dXJl%2Bof%2Bit", "swordfish"
	e, err := Open(t.Context(), Config{
		Data:  filepath.Join(t.TempDir(), "data"),
		Guest: provision.Settings{HTTPProxy: "http://me:" + proxy + "@proxy.example:3128"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	uri := "https://account.example/scripts/a.sh?sv=2022&sig=" + secret
	redactor := &event.Redactor{}
	redactor.Add(e.secrets(job{Artifacts: map[string]plan.Artifact{uri: {URI: uri}}})...)

	const account, run = "stagingaccount", "3f2a1b2c-0d4e-4f5a-8b6c-7d8e9f0a1b2c"
	if err := e.blobs.CreateAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	log, err := e.openLog(t.Context(), account, run, logBlob, redactor)
	if err != nil {
		t.Fatal(err)
	}
	log.Emit(event.Event{Kind: event.Output, Stream: "stdout", Text: "fetching " + uri + " through " + e.cfg.Guest.HTTPProxy})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	r, _, err := e.blobs.Open(t.Context(), blob.Name{Account: account, Container: logContainer, Blob: run + "/" + logBlob}, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "fetching https://account.example/scripts/a.sh?sv=2022&sig="+event.Redacted) {
		t.Errorf("the line is not there:\n%s", text)
	}
	for _, s := range []string{secret, "c2lnbmF0dXJl+of+it", proxy} {
		if strings.Contains(string(text), s) {
			t.Errorf("the log shows %q:\n%s", s, text)
		}
	}
}
