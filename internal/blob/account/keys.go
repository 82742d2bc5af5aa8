// Package account keeps the secrets of storage accounts in their resource
// records, and finds the record of an account by its name.
package account

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Type is the resource type of storage accounts.
const Type = "Microsoft.Storage/storageAccounts"

// keyBytes is the length of an account key, as in the Storage service.
const keyBytes = 64

// Key is one of the two keys of an account.
type Key struct {
	Name    string    `json:"name"`  // "key1" or "key2"
	Value   []byte    `json:"value"` // 64 bytes; on the wire in base64
	Created time.Time `json:"created"`
}

// Secrets are what signatures of an account are made with.
type Secrets struct {
	Keys       []Key  `json:"keys"`
	Delegation []byte `json:"delegation"` // from which user delegation keys are derived
}

// internalKey is where Secrets lie in a record's Internal object.
const internalKey = "storageSecrets"

// NewSecrets draws two keys and a secret for delegation keys.
func NewSecrets(now time.Time) Secrets {
	return Secrets{Keys: []Key{newKey("key1", now), newKey("key2", now)}, Delegation: draw()}
}

func newKey(name string, now time.Time) Key {
	return Key{Name: name, Value: draw(), Created: now.UTC().Truncate(time.Microsecond)}
}

func draw() []byte {
	b := make([]byte, keyBytes)
	_, _ = io.ReadFull(rand.Reader, b) // the system's source does not fail
	return b
}

// Put adds s to the Internal object of a record that is to be stored. What else
// the object holds stays.
func (s Secrets) Put(r *resource.Record) error {
	fields := map[string]json.RawMessage{}
	if len(r.Internal) > 0 {
		if err := json.Unmarshal(r.Internal, &fields); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the record's internal part is damaged: %w", err).At(r.ID)
		}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the account's keys: %w", err)
	}
	fields[internalKey] = raw
	if r.Internal, err = json.Marshal(fields); err != nil {
		return fmt.Errorf("encode the account's keys: %w", err)
	}
	return nil
}

// read is the secrets of a record; ok is false when it has none yet.
func read(r resource.Record) (s Secrets, ok bool, err error) {
	var fields map[string]json.RawMessage
	if len(r.Internal) > 0 {
		if err := json.Unmarshal(r.Internal, &fields); err != nil {
			return Secrets{}, false, arm.Errorf(arm.CodeCorrupt, "the record's internal part is damaged: %w", err).At(r.ID)
		}
	}
	raw, ok := fields[internalKey]
	if !ok {
		return Secrets{}, false, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil || len(s.Keys) == 0 {
		return Secrets{}, false, arm.Errorf(arm.CodeCorrupt, "the account's keys are damaged; regenerate them").At(r.ID)
	}
	return s, true, nil
}

// Load returns the secrets of the account with resource id id, and draws them
// when it has none. The error is arm.CodeNotFound without the account.
func Load(ctx context.Context, store resource.Store, id string) (Secrets, error) {
	r, err := store.Get(ctx, id)
	if err != nil {
		return Secrets{}, err
	}
	if s, ok, err := read(r); ok || err != nil {
		return s, err
	}
	var s Secrets
	_, err = store.Update(ctx, id, func(r *resource.Record) error {
		have, ok, err := read(*r)
		if ok || err != nil {
			s = have // somebody else was first
			return err
		}
		s = NewSecrets(time.Now())
		return s.Put(r)
	})
	return s, err
}

// Regenerate draws the key called name ("key1" or "key2") anew and returns all
// secrets. What was signed with the old one is worth nothing from then on. The
// error is arm.CodeValidationFailed for another name.
func Regenerate(ctx context.Context, store resource.Store, id, name string) (Secrets, error) {
	if _, err := Load(ctx, store, id); err != nil {
		return Secrets{}, err
	}
	var s Secrets
	_, err := store.Update(ctx, id, func(r *resource.Record) error {
		have, _, err := read(*r)
		if err != nil {
			return err
		}
		s = have
		for i := range s.Keys {
			if s.Keys[i].Name == name {
				s.Keys[i] = newKey(name, time.Now())
				return s.Put(r)
			}
		}
		return arm.Errorf(arm.CodeValidationFailed, "%.40q is not a key name; use key1 or key2", name).At(id)
	})
	return s, err
}

// RevokeDelegation makes every user delegation key of the account worthless.
func RevokeDelegation(ctx context.Context, store resource.Store, id string) error {
	if _, err := Load(ctx, store, id); err != nil {
		return err
	}
	_, err := store.Update(ctx, id, func(r *resource.Record) error {
		s, _, err := read(*r)
		if err != nil {
			return err
		}
		s.Delegation = draw()
		return s.Put(r)
	})
	return err
}
