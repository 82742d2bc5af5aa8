package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"goldsmith/test/service"
)

// patience bounds a wait for what must come to its end. It is reached only when
// the test fails.
const patience = time.Minute

// client speaks with one life of the service.
type client struct {
	*service.Service
	http  *http.Client
	token string
}

// connect signs in to a service.
func connect(t *testing.T, s *service.Service) *client {
	t.Helper()
	c := &client{Service: s, http: s.Client()}
	t.Cleanup(c.http.CloseIdleConnections)
	var err error
	if c.token, err = s.Token(t.Context(), c.http); err != nil {
		t.Fatal(err)
	}
	return c
}

// do sends a request for a path with its query and reads the answer into v, which
// may be nil. An error says that there was no whole answer.
func (c *client) do(ctx context.Context, method, path string, body, v any) (status int, err error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if v != nil && resp.StatusCode < http.StatusMultipleChoices {
		return resp.StatusCode, json.Unmarshal(text, v)
	}
	if resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusNotFound {
		return resp.StatusCode, &refusal{fmt.Sprintf("%s %s: %s: %s", method, path, resp.Status, text)}
	}
	return resp.StatusCode, nil
}

// refusal is an answer that no request of these tests may get.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// want sends a request that must succeed.
func (c *client) want(t *testing.T, method, path string, body, v any) {
	t.Helper()
	if status, err := c.do(t.Context(), method, path, body, v); err != nil || status >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %v", method, path, status, err)
	}
}
