package build

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// notAllowed is the error of an operation (such as "delete") that the state of a
// template or of its run forbids. active is the run that is not ended, or nil.
func notAllowed(operation string, s templateState, active *run.Record) *arm.Error {
	state := strings.ToLower(s.state())
	if s.state() == StateSucceeded {
		state = "provisioned" // which is what the real service calls it here
	}
	if active == nil {
		return arm.Errorf(arm.CodeNotAllowed, "Operation %s/%s is not allowed in provisioning state: %s", typeTemplate, operation, state)
	}
	runState := strings.ToLower(string(active.State))
	if active.State == run.Queued {
		runState = "running"
	}
	return arm.Errorf(arm.CodeNotAllowed, "Operation %s/%s is not allowed in provisioning state: %s or run state: %s. run %s is %s",
		typeTemplate, operation, state, runState, active.ID, active.State)
}

// idle is the error of an operation that needs a run where there is none.
func idle(operation string, s templateState, last string) *arm.Error {
	state := strings.ToLower(s.state())
	if s.state() == StateSucceeded {
		state = "provisioned"
	}
	if last == "" {
		last = "none"
	}
	return arm.Errorf(arm.CodeNotAllowed, "Operation %s/%s is not allowed in provisioning state: %s or run state: %s. there is no run to act on",
		typeTemplate, operation, state, strings.ToLower(last))
}

// provisioningState is properties.provisioningState of any resource.
func provisioningState(r resource.Record) string {
	var p struct {
		ProvisioningState string `json:"provisioningState"`
	}
	if json.Unmarshal(r.Properties, &p) != nil {
		return ""
	}
	return p.ProvisioningState
}

// templateLocks serialises what changes the state of one template: a delete does
// not pass between the look and the write of a run that starts.
type templateLocks struct{ stripes [64]sync.Mutex }

// lock takes the lock of a template and returns what gives it back.
func (l *templateLocks) lock(id arm.ID) (unlock func()) {
	var h uint32 = 2166136261
	for _, c := range []byte(id.Key()) {
		h = (h ^ uint32(c)) * 16777619
	}
	m := &l.stripes[h%uint32(len(l.stripes))]
	m.Lock()
	return m.Unlock
}

// pendingTemplates are templates that wait for Serve, oldest first, each once. One
// that is being worked may wait again, but is not worked twice at a time.
type pendingTemplates struct {
	mu      sync.Mutex
	queue   []string
	known   map[string]bool // in queue
	working map[string]bool
	again   []string      // could not be worked; wait for retry
	wake    chan struct{} // holds one token while something may wait
}

func newPending() *pendingTemplates {
	return &pendingTemplates{known: map[string]bool{}, working: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (p *pendingTemplates) add(id string) {
	key := strings.ToLower(id)
	p.mu.Lock()
	if !p.known[key] {
		p.known[key] = true
		p.queue = append(p.queue, id)
	}
	p.mu.Unlock()
	p.ring()
}

// later keeps a template that could not be worked for the next retry.
func (p *pendingTemplates) later(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = append(p.again, id)
}

// retry lets the templates kept by later wait again.
func (p *pendingTemplates) retry() {
	p.mu.Lock()
	again := p.again
	p.again = nil
	p.mu.Unlock()
	for _, id := range again {
		p.add(id)
	}
}

func (p *pendingTemplates) ring() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next is the oldest that nobody works; more wakes another worker for those behind
// it. The worker calls done with it.
func (p *pendingTemplates) next() (id string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, id := range p.queue {
		key := strings.ToLower(id)
		if p.working[key] {
			continue
		}
		p.queue = slices.Delete(p.queue, i, i+1)
		delete(p.known, key)
		p.working[key] = true
		if len(p.queue) > 0 {
			p.ring()
		}
		return id, true
	}
	return "", false
}

// done ends what next began.
func (p *pendingTemplates) done(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.working, strings.ToLower(id))
	if len(p.queue) > 0 {
		p.ring()
	}
}
