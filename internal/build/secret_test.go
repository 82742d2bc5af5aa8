package build_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/artifact/artifacttest"
	"goldsmith/internal/build/buildtest"
)

// The signature of a scriptUri is in no event, log, error or output; the
// template itself keeps it, because the user wrote it there.
func TestSignatureIsNeverShown(t *testing.T) {
	const secret = "S3cretS1gnature"
	web := artifacttest.New(t)
	web.Put("/script.sh", artifacttest.File{Body: []byte("#!/bin/sh\necho from the web\n")})
	l := buildtest.New(t)
	rec, events, err := l.Build(t.Context(), l.Request("signed", buildtest.Template{
		Customize: []buildtest.Object{buildtest.ShellURI("web", web.URL+"/script.sh?sv=1&sig="+secret, "")},
	}))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	if !bytes.Contains([]byte(events.Text()), []byte("from the web")) {
		t.Errorf("the script did not run:\n%s", events.Text())
	}
	if bytes.Contains([]byte(events.Text()), []byte(secret)) {
		t.Errorf("the signature is in the events:\n%s", events.Text())
	}
	err = filepath.WalkDir(l.Data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if base := filepath.Base(path); base == "goldsmith.db" || base == "goldsmith.db-wal" {
			return nil // the template and the run's request are there
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the signature is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
