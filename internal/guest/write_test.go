package guest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
	"goldsmith/internal/guest/guesttest"
	"goldsmith/internal/guest/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect serves a guest whose /tmp is dir/tmp and signs in to it.
func connect(t *testing.T, dir string) guest.Session {
	t.Helper()
	server, err := guesttest.New(guesttest.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	conn, err := server.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := ssh.Connect(t.Context(), conn, ssh.Config{User: "build", Key: server.UserKey(), HostKey: server.HostKey()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	session := connect(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 100<<10)
	_, _ = rand.Read(random)
	for name, content := range map[string][]byte{
		"empty":       {},
		"script":      []byte("#!/bin/sh -e\necho \"it's $HOME\" `date` \\n % '\n"),
		"binary":      random[:16<<10],
		"large":       random,
		"odd 'name'$": []byte("x"),
	} {
		if err := guest.WriteFile(t.Context(), session, content, "/tmp/"+name, 0o750); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join(dir, "tmp", name)
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: got %d bytes, %v; want %d", name, len(got), err, len(content))
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() != 0o750 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

func TestWriteFileRefused(t *testing.T) {
	session := connect(t, t.TempDir())
	err := guest.WriteFile(t.Context(), session, []byte("x"), "/tmp/no/such/directory", 0o644)
	if !arm.IsCode(err, arm.CodeStepFailed) || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("WriteFile into a missing directory = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := guest.WriteFile(ctx, session, []byte("x"), "/tmp/x", 0o644); err == nil {
		t.Error("WriteFile with an ended context succeeded")
	}
}
