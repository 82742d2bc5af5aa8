package blobapi_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// benchSize is what one operation moves, in bytes.
const benchSize = 1 << 30

// BenchmarkBlob moves 1 GiB up and down, through the blob service and through a
// static HTTPS file server, with one client. See docs/performance.md.
func BenchmarkBlob(b *testing.B) {
	w := dirWorld(b)
	w.people.grant("all", readBlobs+" "+scope, writeBlobs+" "+scope)
	ok(b, w.blobs.CreateContainer(b.Context(), name, "data"))
	dir := b.TempDir()
	files := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		path := filepath.Join(dir, "file")
		if r.Method == http.MethodGet {
			http.ServeFile(rw, r, path)
			return
		}
		f, err := os.Create(path)
		if err == nil {
			_, err = io.Copy(f, r.Body)
			if closed := f.Close(); err == nil {
				err = closed
			}
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
		}
	}))
	defer files.Close()
	plain := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer plain.CloseIdleConnections()
	for _, tt := range []struct {
		name, url string
		client    *http.Client
	}{{"file", files.URL + "/file", &http.Client{Transport: plain}}, {"blob", endpoint + "data/file", w.client}} {
		for _, method := range []string{http.MethodPut, http.MethodGet} {
			b.Run(fmt.Sprintf("%s/%s", method, tt.name), func(b *testing.B) {
				b.SetBytes(benchSize)
				for b.Loop() {
					transfer(b, tt.client, method, tt.url)
				}
			})
		}
	}
}

// transfer moves benchSize bytes.
func transfer(b *testing.B, client *http.Client, method, url string) {
	b.Helper()
	var body io.Reader
	if method == http.MethodPut {
		body = io.LimitReader(zeros{}, benchSize)
	}
	r, err := http.NewRequestWithContext(b.Context(), method, url, body)
	ok(b, err)
	r.Header.Set("Authorization", "Bearer all")
	if body != nil {
		r.ContentLength = benchSize
		r.Header.Set("x-ms-blob-type", "BlockBlob")
	}
	resp, err := client.Do(r)
	ok(b, err)
	n, err := io.Copy(io.Discard, resp.Body)
	ok(b, err)
	ok(b, resp.Body.Close())
	if resp.StatusCode >= 300 || method == http.MethodGet && n != benchSize {
		b.Fatalf("%s: %s, %d bytes", method, resp.Status, n)
	}
}
