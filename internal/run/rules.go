package run

import (
	"regexp"
	"slices"
	"time"

	"goldsmith/internal/arm"
)

var idPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ValidID reports whether id is a run's id as it is kept: a lower-case GUID. Such
// an id is safe as a file name.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// Prepare checks a record that is about to be created and returns it as every
// Store keeps it: queued, without owner, at epoch 0.
func Prepare(r Record) (Record, error) {
	if !ValidID(r.ID) {
		return Record{}, arm.Errorf(arm.CodeInternal, "%q is not a run id: it must be a lower-case GUID", r.ID)
	}
	if r.State != "" && r.State != Queued {
		return Record{}, arm.Errorf(arm.CodeNotAllowed, "a run cannot be created %s: every run starts %s", r.State, Queued).At(r.ID)
	}
	r = clone(r)
	r.State = Queued
	if r.SubState == "" {
		r.SubState = SubQueued
	}
	r.Epoch = 0
	return r.unowned(), nil
}

// Apply lets change work on a copy of before and returns the result as a Store
// writes it: ID, Epoch, CreatedAt and the lease are never touched by change, and
// an ended run has no owner. The error is CodeNotAllowed for a state that cannot
// follow before's, or whatever change returns.
func Apply(before Record, change func(*Record) error) (Record, error) {
	after := clone(before)
	if err := change(&after); err != nil {
		return Record{}, err
	}
	after.ID, after.Epoch, after.CreatedAt = before.ID, before.Epoch, before.CreatedAt
	after.Owner, after.BootID, after.LeaseExpires = before.Owner, before.BootID, before.LeaseExpires
	if !follows(before.State, after.State) {
		return Record{}, arm.Errorf(arm.CodeNotAllowed, "a run that is %s cannot become %s", before.State, after.State).At(before.ID)
	}
	if after.State.Ended() {
		after = after.unowned()
	}
	return after, nil
}

// follows reports whether a writer may move a run from one state to another.
// Queued to Running is not among them, because only Store.Acquire does that.
func follows(from, to State) bool {
	switch {
	case from == to:
		return true
	case from.Ended():
		return false
	case to == Canceling:
		return from == Running
	}
	return to.Ended() && known(to)
}

func known(s State) bool {
	return slices.Contains([]State{Succeeded, PartiallySucceeded, Failed, Canceled, Interrupted}, s)
}

func (r Record) unowned() Record {
	r.Owner, r.BootID = "", ""
	r.LeaseExpires = time.Time{}
	return r
}

func clone(r Record) Record {
	r.Outputs = slices.Clone(r.Outputs)
	r.Undo = slices.Clone(r.Undo)
	r.Request = slices.Clone(r.Request)
	return r
}
