package helper_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/provision/helper"
	"goldsmith/internal/provision/helpertest"
	"goldsmith/internal/provision/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask sends lines to a helper and returns its answers.
func ask(t *testing.T, g *helpertest.Guest, lines ...string) []string {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- helper.Serve(t.Context(), theirs, g) }()
	answers := make(chan []string, 1)
	go func() {
		var all []string
		for in := bufio.NewScanner(ours); len(all) < len(lines) && in.Scan(); {
			all = append(all, in.Text())
		}
		answers <- all
	}()
	for _, line := range lines {
		if _, err := io.WriteString(ours, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	all := <-answers
	_ = ours.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("Serve: %v", err)
	}
	return all
}

func TestServe(t *testing.T) {
	for request, want := range map[string]string{
		`{"id":5,"op":"hello","args":{"nonce":"abc","version":9}}`: `{"id":5,"result":{"nonce":"abc","version":1}}`,
		`{"id":6,"op":"format-disk"}`:                              `{"id":6,"error":"unknown request \"format-disk\""}`,
		`{"id":7,"op":"identify"}`:                                 `malformed arguments`,
		`{"id":8,"op":"network","args":[]}`:                        `malformed arguments`,
		`{"id":9,"op":"sync"}`:                                     `{"id":9}`,
	} {
		if got := ask(t, &helpertest.Guest{}, request); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q, want %s", request, got, want)
		}
	}
}

func TestServeRefusesTooManyAtOnce(t *testing.T) {
	release := make(chan struct{})
	g := &helpertest.Guest{On: func(ctx context.Context, op protocol.Op) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}}
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- helper.Serve(t.Context(), theirs, g) }()
	for i := range 17 {
		if _, err := fmt.Fprintf(ours, "{\"id\":%d,\"op\":\"sync\"}\n", i+1); err != nil {
			t.Fatal(err)
		}
	}
	in := protocol.NewReader[protocol.Reply](ours)
	if r, err := in.Read(); err != nil || r.ID != 17 || !strings.Contains(r.Error, "too many") {
		t.Errorf("%+v, %v", r, err)
	}
	close(release)
	for range 16 {
		if r, err := in.Read(); err != nil || r.Error != "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	_ = ours.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestIdentifyRefusesLittleEntropy(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	guest, err := helper.NewLinux(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	err = guest.Identify(t.Context(), protocol.Identify{Entropy: make([]byte, 31)})
	if err == nil || !strings.Contains(err.Error(), "31 bytes of entropy") {
		t.Errorf("%v", err)
	}
}
