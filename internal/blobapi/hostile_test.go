package blobapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"crypto/tls"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// raw sends a request line as it is, which http.Client would not.
func (w *world) raw(t *testing.T, target string) (status int, code string) {
	t.Helper()
	conn, err := tls.Dial("tcp", w.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	ok(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s.blob.%s\r\nAuthorization: Bearer all\r\nConnection: close\r\n\r\n", target, name, suffix)
	ok(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, resp.Header.Get("x-ms-error-code")
}

func TestNamesThatAreTricks(t *testing.T) {
	w := seeded(t)
	w.people.grant("all", readBlobs+" "+scope)
	ok(t, func() error {
		_, err := w.blobs.Put(t.Context(), blob.Name{Account: name, Container: "data", Blob: "a/b c"}, strings.NewReader("x"), blob.PutOptions{})
		return err
	}())
	for _, target := range []string{"/data/x", "/data/a/b%20c", "/data/a%2Fb%20c", "/data/a%2fb%20c"} {
		if status, code := w.raw(t, target); status != 200 {
			t.Errorf("%s: %d %s", target, status, code)
		}
	}
	for _, target := range []string{
		"/data/../more/x", "/data/%2e%2e/more/x", "/data/..%2fmore%2fx", "/data/a/./b", "/data//x", "/data/x/", "/data/x%2F", "/data/%00", "/data/x%00.txt", "/data/a%5Cb",
		`/data/a\b`, "/data/%0a", "/data/%ff", "/data/" + strings.Repeat("x", 1025), "/da..ta/x", "/data%2Fx/y", "/DATA/x", "/../etc/passwd", "/%2e%2e/x", "//data/x", "/..",
	} {
		if status, code := w.raw(t, target); status != 400 {
			t.Errorf("%.60s: %d %s", target, status, code)
		}
	}
}

func TestPathStyle(t *testing.T) {
	w := seeded(t)
	u := w.server.URL + "/" + name
	cred, err := azblob.NewSharedKeyCredential(name, w.key)
	ok(t, err)
	c, err := azblob.NewClientWithSharedKeyCredential(u, cred, w.options())
	ok(t, err)
	if got, _ := download(t, c, "data", "x", nil); string(got) != "in data" {
		t.Errorf("%q", got)
	}
	if _, err := c.UploadBuffer(t.Context(), "data", "dir/y", []byte("y"), nil); err != nil {
		t.Error(err)
	}
	for host, want := range map[string]bool{
		endpoint + "x/y": true, "https://" + name + ".BLOB." + suffix + ":8443/": true, "https://localhost:8443/" + name + "/c/b": true,
		"https://localhost:8443/unknown/c/b": false, "https://localhost:8443/subscriptions/x": false, "https://localhost:8443/": false,
		"https://" + name + ".queue." + suffix + "/x": false,
	} {
		if got := w.handler.Owns(httptest.NewRequest("GET", host, nil)); got != want {
			t.Errorf("owns %s: %v", host, got)
		}
	}
	for url, status := range map[string]int{
		"https://unknown.blob." + suffix + "/con/b": 404, w.server.URL + "/unknown/con/b": 404, w.server.URL + "/": 400, "https://BAD_.blob." + suffix + "/": 400,
	} {
		if resp, body := w.do(t, "GET", url, "", "Authorization", "Bearer x"); resp.StatusCode != status {
			t.Errorf("%s: %d %s", url, resp.StatusCode, body)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := seeded(t)
	w.people.grant("all", readBlobs+" "+scope, writeBlobs+" "+scope, actions+"generateUserDelegationKey/action "+accountID, actions+"containers/setAcl/action "+scope)
	for _, tt := range []struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		{"PUT", "data/n", "x", nil, 400, "MissingRequiredHeader"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "PageBlob"}, 400, "InvalidHeaderValue"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "Content-MD5", "YQ=="}, 400, "InvalidHeaderValue"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "Md5Mismatch"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-content-crc64", "AAAAAAAAAAA="}, 400, "Crc64Mismatch"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-blob-content-type", "application/vnd.goldsmith.blob+json"}, 400, "InvalidHeaderValue"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-meta-a-b", "1"}, 400, "InvalidMetadata"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-lease-id", "1"}, 412, "LeaseNotPresentWithBlobOperation"},
		{"PUT", "data/n", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-encryption-key", "1"}, 400, "UnsupportedHeader"},
		{"PUT", "none/n", "x", []string{"x-ms-blob-type", "BlockBlob"}, 404, "ContainerNotFound"},
		{"PUT", "data/n?comp=blocklist", "<BlockList><Latest>!</Latest></BlockList>", nil, 400, "InvalidBlockList"},
		{"PUT", "data/n?comp=blocklist", "<BlockList><Newest>YQ==</Newest></BlockList>", nil, 400, "InvalidXmlDocument"},
		{"PUT", "data/n?comp=blocklist", "<BlockList>", nil, 400, "InvalidXmlDocument"},
		{"PUT", "data/n?comp=blocklist", "<BlockList/>more", nil, 400, "InvalidXmlDocument"},
		{"PUT", "data/n?comp=block&blockid=YQ==", "", nil, 400, "InvalidHeaderValue"},
		{"PUT", "data/n?comp=page", "x", nil, 501, "NotImplemented"},
		{"PUT", "data/n?comp=lease", "", nil, 501, "NotImplemented"},
		{"PATCH", "data/n", "", nil, 405, "UnsupportedHttpVerb"},
		{"GET", "data/x?snapshot=1", "", nil, 400, "InvalidQueryParameterValue"},
		{"GET", "data/x", "", []string{"x-ms-version", "yesterday"}, 400, "InvalidHeaderValue"},
		{"GET", "data/x", "", []string{"x-ms-range-get-content-md5", "true"}, 400, "InvalidHeaderValue"},
		{"GET", "data?restype=container&comp=list&maxresults=0", "", nil, 400, "InvalidQueryParameterValue"},
		{"GET", "data?restype=container&comp=list&marker=!", "", nil, 400, "InvalidQueryParameterValue"},
		{"GET", "none?restype=container&comp=list", "", nil, 404, "ContainerNotFound"},
		{"POST", "?restype=service&comp=userdelegationkey", "<KeyInfo><Expiry>2001-01-01</Expiry></KeyInfo>", nil, 400, "InvalidXmlDocument"},
		{"POST", "?restype=service&comp=userdelegationkey", strings.Repeat("x", 65<<10), nil, 413, "RequestBodyTooLarge"},
		{"PUT", "data?restype=container&comp=acl", "<SignedIdentifiers><SignedIdentifier><Id></Id></SignedIdentifier></SignedIdentifiers>", nil, 400, "InvalidXmlDocument"},
	} {
		resp, body := w.do(t, tt.method, endpoint+tt.path, tt.body, append([]string{"Authorization", "Bearer all"}, tt.header...)...)
		if code := resp.Header.Get("x-ms-error-code"); resp.StatusCode != tt.status || code != tt.code || !strings.Contains(body, "<Code>"+tt.code) {
			t.Errorf("%s %s %v: %d %s %s, want %d %s", tt.method, tt.path, tt.header, resp.StatusCode, code, body, tt.status, tt.code)
		}
		if resp.Header.Get("x-ms-request-id") == "" || resp.Header.Get("Date") == "" {
			t.Errorf("%s %s: %v", tt.method, tt.path, resp.Header)
		}
	}
	if _, err := w.blobs.Stat(t.Context(), blob.Name{Account: name, Container: "data", Blob: "n"}); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("a refused request left a blob: %v", err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", endpoint+"data/n", io.LimitReader(zeros{}, 10)) // its length is not known
	ok(t, err)
	r.Header.Set("Authorization", "Bearer all")
	r.Header.Set("x-ms-blob-type", "BlockBlob")
	resp, err := w.client.Do(r)
	ok(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusLengthRequired {
		t.Errorf("without a length: %d", resp.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestABrokenUploadLeavesNothing(t *testing.T) {
	w := dirWorld(t)
	ok(t, w.blobs.CreateContainer(t.Context(), name, "data"))
	w.people.grant("all", writeBlobs+" "+scope)
	for _, path := range []string{"data/n", "data/n?comp=block&blockid=YQ=="} {
		conn, err := tls.Dial("tcp", w.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		ok(t, err)
		_, err = fmt.Fprintf(conn, "PUT /%s HTTP/1.1\r\nHost: %s.blob.%s\r\nAuthorization: Bearer all\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 1000000\r\n\r\n%s",
			path, name, suffix, strings.Repeat("x", 900000))
		ok(t, err)
		ok(t, conn.CloseWrite()) // the server sees the end of the client
		_, _ = io.ReadAll(conn)
		ok(t, conn.Close())
	}
	if _, _, err := w.blobs.Blocks(t.Context(), blob.Name{Account: name, Container: "data", Blob: "n"}); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("something is left: %v", err)
	}
}

// TestSixGigabytes moves a blob of more than 32 bits in constant memory.
func TestSixGigabytes(t *testing.T) {
	const block, blocks = 64 << 20, 100
	w := dirWorld(t)
	ctx := t.Context()
	c := w.keyClient(t)
	_, err := c.CreateContainer(ctx, "data", nil)
	ok(t, err)
	b := c.ServiceClient().NewContainerClient("data").NewBlockBlobClient("big")
	zero := make([]byte, block)
	_, err = b.StageBlock(ctx, "YQ==", readSeeker(string(zero)), nil)
	ok(t, err)
	list := make([]string, blocks)
	for i := range list {
		list[i] = "YQ==" // the disk holds it once
	}
	_, err = b.CommitBlockList(ctx, list, nil)
	ok(t, err)
	p, err := b.GetProperties(ctx, nil)
	ok(t, err)
	if *p.ContentLength != block*blocks {
		t.Fatalf("%d bytes", *p.ContentLength)
	}
	last, resp := download(t, c, "data", "big", &azblob.DownloadStreamOptions{Range: azblob.HTTPRange{Offset: block*blocks - 10, Count: 100}})
	if len(last) != 10 || *resp.ContentRange != "bytes 6710886390-6710886399/6710886400" {
		t.Fatalf("%d bytes, %s", len(last), *resp.ContentRange)
	}
	// The whole of it, from the handler itself: TLS would take most of the time.
	r := httptest.NewRequest("GET", endpoint+"data/big", nil)
	r.Header.Set("Authorization", "Bearer all")
	w.people.grant("all", readBlobs+" "+scope)
	sink := &counter{header: http.Header{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.handler.ServeHTTP(sink, r)
	runtime.ReadMemStats(&after)
	if sink.n != block*blocks {
		t.Errorf("%d bytes were sent", sink.n)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes were allocated on the way", grown)
	}
	_, err = b.CommitBlockList(ctx, nil, nil)
	ok(t, err)
}

type counter struct {
	header http.Header
	n      int64
}

func (c *counter) Header() http.Header         { return c.header }
func (c *counter) WriteHeader(int)             {}
func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// TestKilledWriter kills a process in the middle of its puts, of new blobs and of
// one that is replaced over and over.
func TestKilledWriter(t *testing.T) {
	if dir := os.Getenv("BLOBAPI_TEST_DIR"); dir != "" {
		writeForever(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "accounts")
	blobs, err := blob.OpenDir(dir, nil)
	ok(t, err)
	defer func() { ok(t, blobs.Close()) }()
	ctx := t.Context()
	ok(t, blobs.CreateAccount(ctx, name))
	ok(t, blobs.CreateContainer(ctx, name, "data"))
	for range 5 {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), "BLOBAPI_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 3 {
			lines.Scan() // some puts are done, and another is under way
		}
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
		infos, _, err := blobs.List(ctx, name, "data", blob.ListOptions{})
		ok(t, err)
		for _, i := range infos {
			r, _, err := blobs.Open(ctx, i.Name, 0, -1)
			ok(t, err)
			raw, err := io.ReadAll(r)
			ok(t, err)
			ok(t, r.Close())
			if len(raw) != killedSize || strings.Trim(string(raw), string(raw[:1])) != "" {
				t.Fatalf("%s has %d bytes and is not whole", i.Name.Blob, len(raw))
			}
		}
	}
}

const killedSize = 3 << 20

func writeForever(t *testing.T, dir string) {
	blobs, err := blob.OpenDir(dir, nil)
	ok(t, err)
	w := newExisting(t, blobs)
	for n := 0; ; n++ {
		for _, b := range []string{"replaced", fmt.Sprintf("new/%d", n)} {
			content := strings.Repeat(string(rune('a'+n%26)), killedSize)
			resp, body := w.do(t, "PUT", endpoint+"data/"+b, content, "Authorization", "Bearer all", "x-ms-blob-type", "BlockBlob")
			if resp.StatusCode != 201 {
				t.Fatal(resp.StatusCode, body)
			}
		}
		fmt.Println(n)
	}
}

// FuzzRequest sends any request to the handler: no panic, and an error's code with
// every refusal.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/data/x", "comp=list", "Range", "bytes=1-2")
	f.Add("PUT", "/data/x", "comp=block&blockid=YQ==", "x-ms-copy-source", endpoint+"data/x?sig=x&sv=2020-12-06&sr=b")
	f.Add("PUT", "/data/..%2f", "restype=container", "x-ms-meta-a", "b")
	f.Add("GET", "/data/x", "sv=2022-11-02&sr=b&sig=x&se=2099-01-01", "Authorization", "SharedKey a:b")
	f.Add("GET", "/data", "restype=container&comp=list&prefix=%ff&delimiter=/", "If-Match", `"x", *`)
	w := memoryWorld(f)
	w.people.grant("all", readBlobs+" "+scope, writeBlobs+" "+scope, deleteBlobs+" "+scope)
	ok(f, w.blobs.CreateContainer(f.Context(), name, "data"))
	f.Fuzz(func(t *testing.T, method, path, query, header, value string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+name+".blob."+suffix, strings.NewReader(value))
		if err != nil || len(path) > 4096 {
			return
		}
		r.URL.Path, r.URL.RawQuery, r.RemoteAddr = path, query, net.JoinHostPort("127.0.0.1", "1")
		r.Header.Set("Authorization", "Bearer all")
		r.Header.Set(header, value)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code >= 400 && rec.Header().Get("x-ms-error-code") == "" || rec.Code == 500 {
			t.Errorf("%s %q %q %q: %d %s", method, path, query, value, rec.Code, rec.Body)
		}
	})
}
