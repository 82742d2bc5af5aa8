// Package crash kills the service in the middle of its work and looks at what it
// has kept.
package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/test/service"
)

const (
	lives   = 5 // of the service, each ended by a signal
	clients = 4 // that write at once
)

func TestMain(m *testing.M) {
	service.Main()
	goleak.VerifyTestMain(m)
}

// However the service is killed in the middle of writes, each resource is
// afterwards there whole or not at all, what was accepted is there, and templates
// come to the end of their provisioning.
func TestKilledDuringWrites(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := service.Start(t, data)
	c := connect(t, s)
	group := furnish(t, c)
	var total, unanswered int
	for life := range lives {
		writes := hammer(t, c, group, life, random)
		c.http.CloseIdleConnections()
		s = service.Start(t, data)
		c = connect(t, s)
		for _, w := range writes {
			var r resource
			status, err := c.do(t.Context(), http.MethodGet, w.path(), nil, &r)
			if err != nil {
				t.Fatal(err)
			}
			if fault := w.check(status, r); fault != "" {
				t.Errorf("life %d: %s: %s", life, w.id, fault)
			}
			if w.kind.name == "template" && status == http.StatusOK {
				settle(t, c, w)
			}
			if w.inFlight != nil {
				unanswered++
			}
		}
		total += len(writes)
		stagingGroups(t, c, group)
	}
	if unanswered == 0 {
		t.Error("no write was ever in flight")
	}
	t.Logf("%d resources, %d of them with a write in flight", total, unanswered)
}

// furnish makes what the templates need, and returns the group's id.
func furnish(t *testing.T, c *client) string {
	t.Helper()
	scope := "/subscriptions/" + c.Subscription
	group := scope + "/resourceGroups/crash"
	c.want(t, http.MethodPut, group+"?api-version=2024-03-01", object{"location": "westus2"}, nil)
	c.want(t, http.MethodPost, scope+"/providers/Microsoft.VirtualMachineImages/register?api-version=2021-04-01", nil, nil)
	var identity struct {
		Properties struct {
			PrincipalID string `json:"principalId"`
		} `json:"properties"`
	}
	c.want(t, http.MethodPut, identityID(group)+"?api-version=2023-01-31", object{"location": "westus2"}, &identity)
	const contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	c.want(t, http.MethodPut, group+"/providers/Microsoft.Authorization/roleAssignments/5b0a8f2e-37ad-4d25-9c5c-6f0f5f6c7a01?api-version=2022-04-01", object{
		"properties": object{
			"principalId": identity.Properties.PrincipalID, "principalType": "ServicePrincipal",
			"roleDefinitionId": scope + "/providers/Microsoft.Authorization/roleDefinitions/" + contributor,
		},
	}, nil)
	return group
}

// hammer lets the clients write until the service is killed at some moment, and
// returns what they wrote.
func hammer(t *testing.T, c *client, group string, life int, random *rand.Rand) []*write {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := make([][]*write, clients)
	faults := make([]error, clients)
	warm := make(chan struct{}, clients)
	var writers sync.WaitGroup
	for i := range clients {
		writers.Go(func() {
			all[i], faults[i] = writeOn(ctx, c, group, fmt.Sprintf("%d-%d", life, i), (life*clients+i)*1000, warm)
		})
	}
	for range clients {
		<-warm
	}
	moment := time.NewTimer(time.Duration(random.IntN(300)) * time.Millisecond)
	defer moment.Stop()
	<-moment.C
	c.Kill()
	writers.Wait()
	if err := errors.Join(faults...); err != nil {
		t.Fatal(err)
	}
	var writes []*write
	for _, w := range all {
		writes = append(writes, w...)
	}
	return writes
}

// writeOn writes resources, kind after kind, until the service is gone. It sends
// on warm once.
func writeOn(ctx context.Context, c *client, group, name string, n int, warm chan<- struct{}) ([]*write, error) {
	var sendOnce sync.Once
	defer sendOnce.Do(func() { warm <- struct{}{} })
	var writes []*write
	known := map[string]*write{}
	for i := 0; ; i++ {
		k := kinds[i%len(kinds)]
		own := fmt.Sprintf("%s-%s", k.name, name)
		if !k.again {
			own = fmt.Sprintf("%s-%d", own, i)
		}
		w := known[own]
		if w == nil {
			w = &write{kind: k, id: k.id(group, own)}
			known[own] = w
			writes = append(writes, w)
		}
		body := k.body(group, n+i)
		numbers, err := numbersOf(k, body)
		if err != nil {
			return nil, err
		}
		w.inFlight = numbers
		_, err = c.do(ctx, http.MethodPut, w.path(), body, nil)
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			return nil, err
		case err != nil:
			return writes, nil // the service is gone
		}
		w.accepted, w.last, w.inFlight = true, numbers, nil
		if i == len(kinds) {
			sendOnce.Do(func() { warm <- struct{}{} })
		}
	}
}

// numbersOf is what a resource has in it that was made by a body.
func numbersOf(k kind, body object) ([]string, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var r resource
	err = json.Unmarshal(raw, &r)
	return k.numbers(r), err
}

// settle waits until a template has come to the end of its provisioning.
func settle(t *testing.T, c *client, w *write) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		var r resource
		if _, err := c.do(ctx, http.MethodGet, w.path(), nil, &r); err != nil {
			t.Fatalf("%s, waiting for the end of its provisioning: %v", w.id, err)
		}
		switch r.Properties.ProvisioningState {
		case "Succeeded":
			if status, err := c.do(ctx, http.MethodGet, r.Properties.Staging+"?api-version=2024-03-01", nil, nil); err != nil || status != http.StatusOK {
				t.Errorf("the staging group of %s: %d %v", w.id, status, err)
			}
			return
		case "Creating":
		default:
			t.Errorf("%s is %q", w.id, r.Properties.ProvisioningState)
			return
		}
		<-again.C
	}
}

// stagingGroups checks that each staging group is that of a template.
func stagingGroups(t *testing.T, c *client, group string) {
	t.Helper()
	type page struct {
		Value []struct {
			ID         string `json:"id"`
			Properties struct {
				Staging string `json:"exactStagingResourceGroup"`
			} `json:"properties"`
		} `json:"value"`
		Next string `json:"nextLink"`
	}
	list := func(path string) (found []string) {
		for next := path; next != ""; {
			var p page
			c.want(t, http.MethodGet, next, nil, &p)
			for _, v := range p.Value {
				if v.Properties.Staging != "" {
					found = append(found, strings.ToLower(v.Properties.Staging))
				} else {
					found = append(found, strings.ToLower(v.ID))
				}
			}
			next = strings.TrimPrefix(p.Next, c.URL)
		}
		return found
	}
	known := map[string]bool{}
	for _, id := range list(group + "/providers/Microsoft.VirtualMachineImages/imageTemplates?api-version=2022-07-01") {
		known[id] = true
	}
	for _, id := range list("/subscriptions/" + c.Subscription + "/resourceGroups?api-version=2024-03-01") {
		if strings.Contains(id, "/it_") && !known[id] {
			t.Errorf("%s is the staging group of no template", id)
		}
	}
}
