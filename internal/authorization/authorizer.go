// Package authorization answers who may do what from the stored roles and
// assignments, and keeps a record of every answer.
package authorization

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
	"goldsmith/internal/document"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

// Request asks whether a principal may do something.
type Request struct {
	Principal string   // object id
	Groups    []string // object ids of the groups that the principal is in
	Action    string   // e.g. "Microsoft.Compute/images/read"
	Scope     string   // resource id that the action is on
	Data      bool     // a data action
	Run       string   // id of the run that it is for, "" for none
	Why       string   // what it is for, in a few words, for the audit
}

// Defaults of Config.
const (
	defaultFlush = 500 * time.Millisecond
	defaultKeep  = 1_000_000
)

// Memberships is the collection of documents that keeps who is in which group, by
// rbac.Membership.Key.
const Memberships = "memberships"

// Config configures an Authorizer.
type Config struct {
	Resources resource.Store
	// Memberships are the documents that say who is in which group; nil for none.
	Memberships document.Store
	// Generation changes with every write that access depends on.
	Generation func(ctx context.Context) (int64, error)
	Audit      audit.Store
	// Flush is how long a decision waits to be written with others; 0 is 500 ms.
	Flush time.Duration
	// Keep is how many audit records are kept, the newest; 0 is a million.
	Keep int64
}

// Authorizer decides about access. It is safe for concurrent use. Close it when
// done: the last decisions are written then.
type Authorizer struct {
	cfg    Config
	loaded atomic.Pointer[snapshot]
	load   sync.Mutex // one loader at a time
	journal
}

// snapshot is a policy and the generation that it was made of, or an older one.
type snapshot struct {
	generation int64
	policy     *rbac.Policy
	state      rbac.State
}

// New makes an Authorizer of cfg.
func New(cfg Config) *Authorizer {
	if cfg.Flush == 0 {
		cfg.Flush = defaultFlush
	}
	if cfg.Keep == 0 {
		cfg.Keep = defaultKeep
	}
	a := &Authorizer{cfg: cfg}
	a.journal.start(cfg.Audit, cfg.Flush, cfg.Keep)
	return a
}

// Open makes an Authorizer over a database.
func Open(db *store.DB) *Authorizer {
	return New(Config{Resources: db.Resources(), Memberships: db.Documents(Memberships), Generation: db.AccessGeneration, Audit: db.Audit()})
}

// Close writes what is not written yet.
func (a *Authorizer) Close() error { return a.journal.close() }

// Flush writes the decisions made so far, for a reader of the audit.
func (a *Authorizer) Flush(ctx context.Context) error { return a.journal.flush(ctx) }

// Check decides r and keeps the decision. The error is about the store: a denial
// is a decision.
func (a *Authorizer) Check(ctx context.Context, r Request) (rbac.Decision, error) {
	s, err := a.snapshot(ctx)
	if err != nil {
		return rbac.Decision{}, err
	}
	d := s.policy.Check(rbac.Request{Principal: r.Principal, Groups: r.Groups, Action: r.Action, Scope: r.Scope, Data: r.Data})
	return d, a.journal.add(ctx, r, d)
}

// Record keeps a decision that no role made, such as one about the holder of a
// key.
func (a *Authorizer) Record(ctx context.Context, r Request, d rbac.Decision) error {
	return a.journal.add(ctx, r, d)
}

// Journal is where the decisions are kept.
func (a *Authorizer) Journal() audit.Store { return a.cfg.Audit }

// Policy is the policy as of now, for questions that decide nothing, such as a
// preflight. They are not kept.
func (a *Authorizer) Policy(ctx context.Context) (*rbac.Policy, error) {
	s, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.policy, nil
}

// State is what the policy is made of, as of now. It must not be changed.
func (a *Authorizer) State(ctx context.Context) (rbac.State, error) {
	s, err := a.snapshot(ctx)
	if err != nil {
		return rbac.State{}, err
	}
	return s.state, nil
}

// Denied is the error of a denied request, in the words of the real service,
// where client is how the principal is known to people.
func Denied(r Request, client string) error {
	return rbac.ErrDenied(client, rbac.Request{Principal: r.Principal, Action: r.Action, Scope: r.Scope})
}

// snapshot is the policy of the stored generation. Reading the generation is all
// that it costs as long as nothing changes.
func (a *Authorizer) snapshot(ctx context.Context) (*snapshot, error) {
	now, err := a.cfg.Generation(ctx)
	if err != nil {
		return nil, err
	}
	if s := a.loaded.Load(); s != nil && s.generation == now {
		return s, nil
	}
	a.load.Lock()
	defer a.load.Unlock()
	// Read before the records: a write in between makes the next caller load again.
	if now, err = a.cfg.Generation(ctx); err != nil {
		return nil, err
	}
	if s := a.loaded.Load(); s != nil && s.generation == now {
		return s, nil
	}
	state, err := a.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read roles and assignments: %w", err)
	}
	s := &snapshot{generation: now, policy: rbac.Compile(state), state: state}
	a.loaded.Store(s)
	return s, nil
}

// read reads the stored roles, assignments and registrations.
func (a *Authorizer) read(ctx context.Context) (rbac.State, error) {
	var state rbac.State
	roles, _, err := a.cfg.Resources.List(ctx, resource.Query{Type: rbac.TypeRole})
	if err != nil {
		return state, err
	}
	for _, rec := range roles {
		r, err := rbac.ParseRole(rec.ID, rec.Properties)
		if err != nil {
			return state, arm.Errorf(arm.CodeCorrupt, "the stored role does not parse: %w", err)
		}
		r.BuiltIn = false // those are part of the program
		state.Roles = append(state.Roles, r)
	}
	assignments, _, err := a.cfg.Resources.List(ctx, resource.Query{Type: rbac.TypeAssignment})
	if err != nil {
		return state, err
	}
	for _, rec := range assignments {
		one, err := rbac.ParseAssignment(rec.ID, rec.Properties)
		if err != nil {
			return state, arm.Errorf(arm.CodeCorrupt, "the stored assignment does not parse: %w", err)
		}
		one.Scope = rbac.AssignmentScope(rec.ID) // where the record is counts, not what it says
		state.Assignments = append(state.Assignments, one)
	}
	if state.Memberships, err = a.memberships(ctx); err != nil {
		return state, err
	}
	state.Registered, err = a.registered(ctx)
	return state, err
}

// memberships are who is in which group.
func (a *Authorizer) memberships(ctx context.Context) ([]rbac.Membership, error) {
	if a.cfg.Memberships == nil {
		return nil, nil
	}
	records, err := a.cfg.Memberships.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []rbac.Membership
	for _, r := range records {
		m, ok := rbac.ParseMembership(r.Key)
		if !ok {
			return nil, arm.Errorf(arm.CodeCorrupt, "the stored membership %q does not parse", r.Key)
		}
		all = append(all, m)
	}
	return all, nil
}

// registered are the subscriptions in which the service is registered.
func (a *Authorizer) registered(ctx context.Context) ([]string, error) {
	var out []string
	records, _, err := a.cfg.Resources.List(ctx, resource.Query{Type: TypeProvider})
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		id, err := arm.ParseID(rec.ID)
		if err != nil || resource.Key(rec.ID) != resource.Key(RegistrationID(id.Subscription)) {
			continue
		}
		if ok, err := isRegistered(rec); err != nil {
			return nil, err
		} else if ok {
			out = append(out, id.Subscription)
		}
	}
	return out, nil
}

// errClosed is the error of a decision after Close.
var errClosed = errors.New("the authorizer is closed")
