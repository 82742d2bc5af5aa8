// Package run holds the record of one build: its state machine, its lease and
// the Store that keeps runs. It performs no I/O.
package run

import (
	"context"
	"encoding/json"
	"time"
)

// State is a run's state, with the names of lastRunStatus.runState; Queued and
// Interrupted are this program's own.
type State string

// States of a run. Running and Canceling are the only ones with an owner.
const (
	Queued             State = "Queued"
	Running            State = "Running"
	Canceling          State = "Canceling"
	Succeeded          State = "Succeeded"
	PartiallySucceeded State = "PartiallySucceeded" // some distributions failed
	Failed             State = "Failed"
	Canceled           State = "Canceled"
	Interrupted        State = "Interrupted" // its owner died; cleaned up by the next command
)

// Ended reports whether s is final.
func (s State) Ended() bool {
	switch s {
	case Queued, Running, Canceling:
		return false
	}
	return true
}

// SubState is lastRunStatus.runSubState.
type SubState string

// Sub-states in the order they are passed.
const (
	SubQueued       SubState = "Queued"
	SubBuilding     SubState = "Building"
	SubCustomizing  SubState = "Customizing"
	SubOptimizing   SubState = "Optimizing"
	SubValidating   SubState = "Validating"
	SubDistributing SubState = "Distributing"
)

// Output is one distribution target's result.
type Output struct {
	Name        string `json:"name"` // runOutputName
	Kind        string `json:"kind"` // ManagedImage, SharedImage, VHD, File
	ArtifactID  string `json:"artifactId,omitempty"`
	ArtifactURI string `json:"artifactUri,omitempty"`
	Error       string `json:"error,omitempty"`
}

// Record is one run. Every write after creation is fenced by Epoch: a writer
// that lost its lease cannot change the record.
type Record struct {
	ID         string          `json:"id"`       // lower-case GUID
	Template   string          `json:"template"` // image template resource id
	State      State           `json:"state"`
	SubState   SubState        `json:"subState,omitempty"`
	Message    string          `json:"message,omitempty"`
	Phase      string          `json:"phase,omitempty"` // last event.Phase started
	FailedStep string          `json:"failedStep,omitempty"`
	Outputs    []Output        `json:"outputs,omitempty"`
	Request    json.RawMessage `json:"-"` // what to build, as its owner needs it
	Undo       []Undo          `json:"-"` // acquisitions not yet undone, oldest first

	Owner        string    `json:"owner,omitempty"` // node and process that works it
	Epoch        int64     `json:"epoch"`           // raised whenever ownership changes
	LeaseExpires time.Time `json:"-"`               // by the database's clock; zero without owner
	BootID       string    `json:"-"`               // boot id of the owner's host

	CreatedAt time.Time `json:"createdAt"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
}

// Undo is one acquisition that must be given back, kept with the run so that a
// crash between acquisition and undo is cleaned up by the next start.
type Undo struct {
	Kind   string `json:"kind"`   // "process", "dir", "resource", "blob"...
	Target string `json:"target"` // pid and start time, path, resource id...
}

// Filter selects runs of a List.
type Filter struct {
	Template string // image template resource id, any case; "" for all
	States   []State
	Before   string // only runs made before the run with this id; "" for all
	Limit    int    // newest first; 0 for all
}

// Store keeps runs. Writes carry the epoch they were made under and fail with
// arm.CodePreconditionFailed when the stored epoch has moved on.
type Store interface {
	Create(ctx context.Context, r Record) (Record, error)
	Get(ctx context.Context, id string) (Record, error)
	// Find resolves a full id or a unique prefix; CodeNotFound or, for several
	// matches, CodeUsage listing them.
	Find(ctx context.Context, idOrPrefix string) (Record, error)
	List(ctx context.Context, f Filter) ([]Record, error)
	// Acquire makes owner the run's owner, raising Epoch, if the run has not
	// ended and has no live lease.
	Acquire(ctx context.Context, id, owner, bootID string, lease time.Duration) (Record, error)
	// Renew extends the lease under epoch.
	Renew(ctx context.Context, id string, epoch int64, lease time.Duration) error
	// Update applies change to the stored record under epoch. change must be
	// repeatable and cannot change ID, Epoch or Owner.
	Update(ctx context.Context, id string, epoch int64, change func(*Record) error) (Record, error)
	// Expire takes an unended run from an owner that is gone: raises Epoch and
	// clears the owner, so that every later write of that owner fails.
	Expire(ctx context.Context, id string, epoch int64) (Record, error)
	// RequestCancel moves a queued run to Canceled and a running one to
	// Canceling, whoever owns it; the owner sees it at its next look.
	RequestCancel(ctx context.Context, id string) (Record, error)
	// Delete forgets an ended run.
	Delete(ctx context.Context, id string) error
}
