package armapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"goldsmith/internal/armapi/armapitest"
)

// listen serves a door on a real connection.
func listen(t *testing.T) (*armapitest.Door, *httptest.Server) {
	t.Helper()
	d := armapitest.New(t, sample)
	s := httptest.NewTLSServer(d.API)
	t.Cleanup(s.Close)
	return d, s
}

// dial is a connection on which a test writes what it likes.
func dial(t *testing.T, s *httptest.Server) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), s.Client().Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

const head = "PUT " + things + "/a?api-version=2024-01-01 HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer " + armapitest.Admin + "\r\n"

// A body that is announced with 100 MB is refused before it is sent.
func TestHugeBody(t *testing.T) {
	_, s := listen(t)
	c := dial(t, s)
	fmt.Fprintf(c, "%sContent-Length: 104857600\r\n\r\n", head)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
		t.Errorf("%s, close %t", res.Status, res.Close)
	}
}

// One that only turns out to be too large is read up to the limit.
func TestEndlessBody(t *testing.T) {
	_, s := listen(t)
	c := dial(t, s)
	fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n", head)
	chunk := fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat("x", 0x10000))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 100 << 20 / 0x10000 {
			if _, err := io.WriteString(c, chunk); err != nil {
				return // the service has closed
			}
		}
	})
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(res.Status)
	}
	_ = c.Close()
	wg.Wait()
}

// A client that goes away in the middle of its body leaves nothing behind: goleak
// watches.
func TestAbortedBody(t *testing.T) {
	d, s := listen(t)
	for range 20 {
		c := dial(t, s)
		fmt.Fprintf(c, "%sContent-Length: 1000\r\n\r\n{\"location\":", head)
		_ = c.Close()
	}
	d.Want(200, "GET", things+"/a", "") // it still answers
}

// 200 clients poll one operation until it ends.
func TestManyPollers(t *testing.T) {
	d, s := listen(t)
	accepted := d.Want(202, "POST", things+"/a/begin", "wait")
	link := strings.Replace(accepted.Header.Get("Location"), "https://door.test", s.URL, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	transport := s.Client().Transport.(*http.Transport)
	transport.MaxIdleConnsPerHost = 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 200 {
		wg.Go(func() {
			for range 5 {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+armapitest.Admin)
				res, err := s.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				mu.Lock()
				seen[fmt.Sprintf("%d, error %v, again in %s, running %t", res.StatusCode, err, res.Header.Get("Retry-After"), bytes.Contains(body, []byte("InProgress")))]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if seen["200, error <nil>, again in 1, running true"] != 1000 {
		t.Errorf("answers %v", seen)
	}
}

// An aborted request is not a fault of the service.
func TestAbortedRequest(t *testing.T) {
	d := armapitest.New(t, sample)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://door.test"+things+"?api-version=2024-01-01", nil)
	r.Header.Set("Authorization", "Bearer "+armapitest.Admin)
	w := httptest.NewRecorder()
	d.API.ServeHTTP(w, r)
	if w.Code != 499 {
		t.Errorf("status %d", w.Code)
	}
}
