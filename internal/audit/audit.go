// Package audit is the record of decisions about access: who asked to do what,
// and what the answer was. It performs no I/O and holds no secrets: principals
// are object ids or names of keys, and scopes are resource ids.
package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Record is one decision, or several equal ones that came within a second.
type Record struct {
	Seq        int64     // order of writing, from 1
	Time       time.Time // of the first
	Last       time.Time // of the last; Time when there was one
	Count      int       // how many, at least 1
	Principal  string    // object id; ACCOUNT/KEY for who has a key of a storage account
	Action     string
	Scope      string
	Data       bool // a data action
	Allowed    bool
	Assignment string // id of the assignment that allowed it, "" for none
	Role       string // name of its role
	Run        string // id of the run that it was for, "" for none
	Why        string // what it was for, in a few words
}

// line is a Record as JSON, with its members in this order.
type line struct {
	Seq        int64     `json:"seq"`
	Time       time.Time `json:"time"`
	Last       time.Time `json:"last"`
	Count      int       `json:"count"`
	Decision   string    `json:"decision"`
	Principal  string    `json:"principal"`
	Action     string    `json:"action"`
	Scope      string    `json:"scope"`
	Data       bool      `json:"dataAction,omitempty"`
	Assignment string    `json:"assignment,omitempty"`
	Role       string    `json:"role,omitempty"`
	Run        string    `json:"run,omitempty"`
	Why        string    `json:"why,omitempty"`
}

// Decision is "allow" or "deny".
func (r Record) Decision() string {
	if r.Allowed {
		return "allow"
	}
	return "deny"
}

// MarshalJSON is one line of an export.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(line{
		Seq: r.Seq, Time: r.Time, Last: r.Last, Count: r.Count, Decision: r.Decision(), Principal: r.Principal,
		Action: r.Action, Scope: r.Scope, Data: r.Data, Assignment: r.Assignment, Role: r.Role, Run: r.Run, Why: r.Why,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Record) UnmarshalJSON(text []byte) error {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	*r = Record{
		Seq: l.Seq, Time: l.Time, Last: l.Last, Count: l.Count, Allowed: l.Decision == "allow", Principal: l.Principal,
		Action: l.Action, Scope: l.Scope, Data: l.Data, Assignment: l.Assignment, Role: l.Role, Run: l.Run, Why: l.Why,
	}
	return nil
}

// Query selects records. Zero fields select everything.
type Query struct {
	Run       string // id of a run, or its beginning
	Principal string // object id
	Scope     string // this id and everything below it
	Denied    bool   // denials only
	Since     time.Time
	After     int64 // records with a greater Seq
	// Limit is the most records; the newest are kept then. 0 for all.
	Limit int
}

// Store keeps Records. Its methods may be called concurrently and by several
// processes.
type Store interface {
	// Append writes records in their order and sets no field of them. The oldest
	// of all go when there are more than keep; 0 keeps all.
	Append(ctx context.Context, records []Record, keep int64) error
	// List returns what q selects, oldest first.
	List(ctx context.Context, q Query) ([]Record, error)
}
