package blob_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/blobtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BLOB_TEST_DIR"); dir != "" {
		os.Exit(racer(dir))
	}
	goleak.VerifyTestMain(m)
}

func openDir(t *testing.T) *blob.Accounts {
	t.Helper()
	a, err := blob.OpenDir(filepath.Join(t.TempDir(), "accounts"), blobtest.Renderer{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDirectory(t *testing.T) { blobtest.Conformance(t, openDir) }

func TestMemory(t *testing.T) {
	blobtest.Conformance(t, func(*testing.T) *blob.Accounts { return blob.NewMemory(blobtest.Renderer{}) })
}

const raceRounds = 30

func raceName(n int) blob.Name {
	return blob.Name{Account: "account", Container: "vhds", Blob: fmt.Sprint("race/", n)}
}

// racer is another process that creates the same blobs and says which it got.
func racer(dir string) int {
	a, err := blob.OpenDir(dir, nil)
	if err != nil {
		return 1
	}
	for n := range raceRounds {
		_, err := a.Put(context.Background(), raceName(n), strings.NewReader(fmt.Sprint(os.Getpid())), blob.PutOptions{IfNoneMatch: true})
		switch {
		case err == nil:
			fmt.Println(n)
		case !arm.IsCode(err, arm.CodePreconditionFailed):
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func TestProcessesCreateEachBlobOnce(t *testing.T) {
	dir := t.TempDir()
	a, err := blob.OpenDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if err := a.CreateAccount(t.Context(), "account"); err != nil {
		t.Fatal(err)
	}
	if err := a.CreateContainer(t.Context(), "account", "vhds"); err != nil {
		t.Fatal(err)
	}
	var children []*exec.Cmd
	var outs []*strings.Builder
	for range 2 {
		cmd, out := exec.CommandContext(t.Context(), os.Args[0]), &strings.Builder{}
		cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "BLOB_TEST_DIR="+dir), out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children, outs = append(children, cmd), append(outs, out)
	}
	var won []string
	for i, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		won = append(won, strings.Fields(outs[i].String())...)
	}
	if len(won) != raceRounds {
		t.Errorf("%d blobs were created %d times", raceRounds, len(won))
	}
}

func TestStrandedTemporaryFilesDoNotShow(t *testing.T) {
	dir := t.TempDir()
	a, err := blob.OpenDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ctx := t.Context()
	if err := a.CreateAccount(ctx, "account"); err != nil {
		t.Fatal(err)
	}
	if err := a.CreateContainer(ctx, "account", "vhds"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Put(ctx, raceName(1), strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	// As a killed writer leaves it, beside its blob.
	for _, place := range []string{"b/account/vhds/race~/fileblob42", "b/account/vhds/fileblob42", "m/account/fileblob42"} {
		if err := os.WriteFile(filepath.Join(dir, place), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blobs, _, err := a.List(ctx, "account", "vhds", blob.ListOptions{})
	if err != nil || len(blobs) != 1 || blobs[0].Name != raceName(1) {
		t.Errorf("%+v, %v", blobs, err)
	}
	if containers, err := a.Containers(ctx, "account"); err != nil || len(containers) != 1 {
		t.Errorf("%v, %v", containers, err)
	}
	if err := a.DeleteAccount(ctx, "account"); err != nil {
		t.Fatal(err)
	}
}

func TestLogWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := blob.NewMemory(nil)
		defer func() { _ = a.Close() }()
		n := blob.Name{Account: "account", Container: "packerlogs", Blob: "run/customization.log"}
		if _, err := blob.NewLogWriter(t.Context(), a, n, time.Second); !arm.IsCode(err, arm.CodeNotFound) {
			t.Fatalf("a log without container: %v", err)
		}
		for _, err := range []error{a.CreateAccount(t.Context(), n.Account), a.CreateContainer(t.Context(), n.Account, n.Container)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		content := func() string {
			t.Helper()
			r, info, err := a.Open(t.Context(), n, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			raw, err := io.ReadAll(r)
			if err != nil || info.ContentType != "text/plain; charset=utf-8" {
				t.Fatalf("%v, %+v", err, info)
			}
			return string(raw)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, err := blob.NewLogWriter(ctx, a, n, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(); got != "" {
			t.Errorf("a new log holds %q", got)
		}
		write := func(s string) {
			t.Helper()
			if _, err := io.WriteString(w, s); err != nil {
				t.Fatal(err)
			}
		}
		write("one\n")
		if got := content(); got != "" {
			t.Errorf("published at once: %q", got)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if got := content(); got != "one\n" {
			t.Errorf("after 3 s: %q", got)
		}
		write("two\n")
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := content(); got != "one\ntwo\n" {
			t.Errorf("after a flush: %q", got)
		}
		cancel()
		write("three\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := content(); got != "one\ntwo\nthree\n" {
			t.Errorf("after close: %q", got)
		}
	})
}

func TestURIs(t *testing.T) {
	n := blob.Name{Account: "stage0123", Container: "packerlogs", Blob: "a b/ü%2?#.log"}
	uri := n.URI(blob.DefaultSuffix)
	if want := "https://stage0123.blob.core.windows.net/packerlogs/a%20b/%C3%BC%252%3F%23.log"; uri != want {
		t.Errorf("%s, want %s", uri, want)
	}
	for _, good := range []string{uri, uri + "?sv=1&sig=x", strings.Replace(uri, "stage0123.blob.core", "STAGE0123.Blob.CORE", 1)} {
		if got, err := blob.ParseURI(blob.DefaultSuffix, good); err != nil || got != n {
			t.Errorf("%s: %+v, %v", good, got, err)
		}
	}
	const host = "https://stage0123.blob.core.windows.net"
	for _, bad := range []string{
		"", "x", "http://stage0123.blob.core.windows.net/vhds/a", "https://example.com/vhds/a", "https://stage0123.blob.core.windows.net.evil.com/vhds/a",
		"https://u:p@stage0123.blob.core.windows.net/vhds/a", "https://stage0123.blob.core.windows.net:444/vhds/a", "https://a.b.blob.core.windows.net/vhds/a",
		host, host + "/", host + "/vhds", host + "/vhds/", host + "//a", host + "/vhds//a", host + "/vhds/../a", host + "/vhds/%2e%2e/a",
		host + "/vhds/a%2Fb", host + "/vhds/a%5cb", host + "/vhds/a%00b", host + "/vhds/a#b", host + "/VHDS/a", host + "/vhds/%zz",
	} {
		if got, err := blob.ParseURI(blob.DefaultSuffix, bad); !arm.IsCode(err, arm.CodeValidationFailed) {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
	if _, err := blob.ParseURI(blob.DefaultSuffix, "https://x/y?sig=verysecret"); strings.Contains(err.Error(), "verysecret") {
		t.Errorf("the signature is in the error: %v", err)
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("https://stage0123.blob.core.windows.net/packerlogs/a/b.log")
	f.Add("https://abc.blob.core.windows.net/vhds/%2e%2e/x?y#z")
	f.Fuzz(func(t *testing.T, uri string) {
		n, err := blob.ParseURI(blob.DefaultSuffix, uri)
		if err != nil {
			return
		}
		if err := n.Check(); err != nil {
			t.Fatalf("%q gives a bad name: %v", uri, err)
		}
		if again, err := blob.ParseURI(blob.DefaultSuffix, n.URI(blob.DefaultSuffix)); err != nil && !strings.Contains(n.Blob, ".") || err == nil && again != n {
			t.Fatalf("%q: %+v, then %+v, %v", uri, n, again, err)
		}
	})
}
