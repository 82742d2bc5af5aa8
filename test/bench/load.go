package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"
)

// How much load there is.
const (
	loadGets       = 20_000
	loadGetClients = 16
	loadPuts       = 3_000
	loadPutClients = 8
	loadPages      = 500 // in each round
	loadPageRounds = 7
	loadStarts     = 3
)

const (
	templateType    = "/providers/Microsoft.VirtualMachineImages/imageTemplates/"
	templateVersion = "2024-02-01"
)

// loaded measures a service under load with a full store: reads, writes, pages,
// and its start and idle memory.
func loaded(ctx context.Context, r *report, binary, work string) error {
	data := filepath.Join(work, "load")
	origin, flags, err := scripts(work)
	if err != nil {
		return err
	}
	defer origin.Close()
	l := &loading{report: r, binary: binary, data: data, flags: flags, script: origin.URL + "/small.sh"}
	if err := l.model(ctx); err != nil {
		return err
	}
	if err := fillStore(ctx, l, 0, 1); err != nil {
		return fmt.Errorf("fill the first group: %w", err)
	}
	alone := *l
	alone.data = filepath.Join(work, "load-alone")
	if err := os.CopyFS(alone.data, os.DirFS(l.data)); err != nil {
		return fmt.Errorf("copy the store with one group: %w", err)
	}
	if err := fillStore(ctx, l, 1, fillGroups); err != nil {
		return fmt.Errorf("fill the store: %w", err)
	}
	for range loadStarts {
		if err := idleOnce(ctx, r, binary, data, "load", "start on the full store"); err != nil {
			return err
		}
	}
	return l.during(ctx, func(s *served, c *client) error {
		err := alone.during(ctx, func(one *served, asking *client) error { return comparePages(ctx, r, one, asking, s, c) })
		if err != nil {
			return err
		}
		_, err = c.load(r, s, "GET of a template", "to be reached: 2,000", loadGetClients, loadGets, func(i int) error {
			path := fmt.Sprintf("/resourceGroups/%s%s%s", groupName(i%fillGroups), templateType, templateName(i*7%fillTemplates))
			return c.do(ctx, http.MethodGet, path, templateVersion, nil, nil)
		})
		if err != nil {
			return err
		}
		return l.puts(ctx, s, c)
	})
}

// loading is what the parts of the measurement share.
type loading struct {
	report       *report
	binary, data string
	flags        []string // of goldsmith serve
	script       string   // address of a small script
	app, secret  string   // of the load client's principal
	identity     string   // id of the templates' identity
}

// scripts serves a small script, and says which flags let a service fetch it.
func scripts(work string) (*httptest.Server, []string, error) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, smallScript) // an error is the client's going away
	}))
	ca := filepath.Join(work, "origin.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: origin.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		origin.Close()
		return nil, nil, err
	}
	return origin, []string{"--allow-fetch", "127.0.0.0/8", "--ca-file", ca}, nil
}

const smallScript = "#!/bin/sh -e\necho small | sudo tee /etc/small\n"

// during runs f while the service runs, with a client that is signed in.
func (l *loading) during(ctx context.Context, f func(*served, *client) error) (err error) {
	s, err := serve(ctx, l.binary, l.data, l.flags...)
	if err != nil {
		return err
	}
	defer func() {
		if serr := s.stop(); err == nil {
			err = serr
		}
	}()
	if l.app == "" {
		if err := l.users(ctx); err != nil {
			return err
		}
	}
	c, err := newClient(ctx, l.data, l.app, l.secret)
	if err != nil {
		return err
	}
	defer c.close()
	return f(s, c)
}

// comparePages reads pages of 50 of a group's identities, by turns from a service
// that has no other group and from the one that has all.
func comparePages(ctx context.Context, r *report, alone *served, asking *client, full *served, c *client) error {
	pages := func(s *served, c *client, name string) (float64, error) {
		return c.load(r, s, name, "", loadGetClients, loadPages, func(int) error {
			path := fmt.Sprintf("/resourceGroups/%s/providers/Microsoft.ManagedIdentity/userAssignedIdentities?$top=50", groupName(0))
			return c.do(ctx, http.MethodGet, path, "2023-01-31", nil, nil)
		})
	}
	for range loadPageRounds {
		before, err := pages(alone, asking, "page of a list, no other groups")
		if err != nil {
			return err
		}
		after, err := pages(full, c, "page of a list")
		if err != nil {
			return err
		}
		r.join("load", "page of a list, relative to no other groups", "", "to be reached: not slower", after/before)
	}
	return nil
}

// model makes the template that the store is filled with copies of.
func (l *loading) model(ctx context.Context) error {
	return l.during(ctx, func(_ *served, c *client) error {
		path := "/resourceGroups/" + groupName(0) + templateType + templateName(0)
		if err := c.do(ctx, http.MethodPut, path, templateVersion, l.template(c, 0), nil); err != nil {
			return err
		}
		_, err := l.settle(ctx, c, groupName(0), 1)
		return err
	})
}

// template is the body of a template with a small frozen script.
func (l *loading) template(c *client, i int) []byte {
	target := c.subscription + "/resourceGroups/" + groupName(0) + "/providers/Microsoft.Compute/images/" + templateName(i)
	body, err := json.Marshal(map[string]any{
		"location": "westus2", "identity": map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{l.identity: map[string]any{}}},
		"properties": map[string]any{
			"source": map[string]any{"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
			"customize": []any{
				map[string]any{"type": "Shell", "name": "script", "scriptUri": l.script, "sha256Checksum": fmt.Sprintf("%x", sha256.Sum256([]byte(smallScript)))},
				map[string]any{"type": "Shell", "name": "lines", "inline": []string{"sudo mkdir /image", fmt.Sprintf("echo %d | sudo tee /image/number", i)}},
			},
			"distribute": []any{map[string]any{"type": "ManagedImage", "imageId": target, "location": "westus2", "runOutputName": "out"}},
		},
	})
	if err != nil {
		panic(err) // of strings and numbers
	}
	return body
}

// puts submits templates to a group of their own and waits until all have
// Succeeded.
func (l *loading) puts(ctx context.Context, s *served, c *client) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	start := time.Now()
	group := groupName(fillGroups)
	_, err = c.load(l.report, s, "PUT of a template", "to be reached: 300", loadPutClients, loadPuts, func(i int) error {
		return c.do(ctx, http.MethodPut, "/resourceGroups/"+group+templateType+templateName(i), templateVersion, l.template(c, i), nil)
	})
	if err != nil {
		return err
	}
	end, err := l.settle(ctx, c, group, loadPuts)
	if err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	l.report.add("load", "templates Succeeded, from the first PUT to the last of them", "1/s", "to be reached: 50", loadPuts/end.Sub(start).Seconds())
	l.report.add("load", "processor time of the service from PUT to Succeeded", "us each", "", float64((after-before).Microseconds())/loadPuts)
	return nil
}

// settlePause is between two looks at a template that is being made.
const settlePause = 50 * time.Millisecond

// settle waits until the first n templates of a group have Succeeded, and says when.
// It asks for one after the other: a look at all of them would be load of its own.
func (l *loading) settle(ctx context.Context, c *client, group string, n int) (time.Time, error) {
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for i := 0; i < n; {
		var t struct {
			Properties struct {
				State string          `json:"provisioningState"`
				Error json.RawMessage `json:"provisioningError"`
			} `json:"properties"`
		}
		if err := c.do(ctx, http.MethodGet, "/resourceGroups/"+group+templateType+templateName(i), templateVersion, nil, &t); err != nil {
			return time.Time{}, err
		}
		switch t.Properties.State {
		case "Succeeded":
			i++
			continue
		case "Failed":
			return time.Time{}, fmt.Errorf("the template %s failed: %s", templateName(i), t.Properties.Error)
		}
		select {
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return time.Now(), nil
}
