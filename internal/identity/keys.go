package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
)

// keyAge is how old the signing key becomes before a new one takes its place.
// The old one stays for reading: tokens live far shorter than a key.
const keyAge = 60 * 24 * time.Hour

// keyRing is the tenant's signing keys: the first signs, the others, one at most,
// are for tokens that it has signed before.
type keyRing struct {
	store document.Store
	now   func() time.Time

	mu   sync.RWMutex
	keys []signingKey
}

type signingKey struct {
	id      string
	private *rsa.PrivateKey
	signer  jose.Signer
	made    time.Time
}

// storedKey is a signing key as it is kept.
type storedKey struct {
	ID    string    `json:"id"`
	PKCS8 []byte    `json:"pkcs8"`
	Made  time.Time `json:"made"`
}

const ringKey = "ring"

// openKeys reads the keys, and makes the first or a new one where it is time.
func openKeys(ctx context.Context, store document.Store, now func() time.Time) (*keyRing, error) {
	r := &keyRing{store: store, now: now}
	return r, r.refresh(ctx)
}

// refresh reads the keys again and rotates them when the first is too old.
func (r *keyRing) refresh(ctx context.Context) error {
	for {
		var stored []storedKey
		rec, err := r.store.Get(ctx, ringKey)
		switch {
		case arm.IsCode(err, arm.CodeNotFound):
		case err != nil:
			return err
		default:
			if err := json.Unmarshal(rec.Body, &stored); err != nil {
				return arm.Errorf(arm.CodeCorrupt, "the signing keys do not decode: %w", err)
			}
		}
		if len(stored) > 0 && r.now().Sub(stored[0].Made) < keyAge {
			return r.load(stored)
		}
		key, err := newKey(r.now())
		if err != nil {
			return err
		}
		stored = append([]storedKey{key}, stored[:min(1, len(stored))]...)
		body, err := json.Marshal(stored)
		if err != nil {
			return arm.Errorf(arm.CodeInternal, "encode the signing keys: %w", err)
		}
		_, err = r.store.Put(ctx, ringKey, body, document.Condition{IfMatch: rec.ETag, IfNoneMatch: rec.ETag == ""})
		if arm.IsCode(err, arm.CodePreconditionFailed) {
			continue // another process was first: take its keys
		}
		if err != nil {
			return err
		}
		return r.load(stored)
	}
}

func newKey(now time.Time) (storedKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return storedKey{}, arm.Errorf(arm.CodeInternal, "make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return storedKey{}, arm.Errorf(arm.CodeInternal, "encode a signing key: %w", err)
	}
	return storedKey{ID: uuid.NewString(), PKCS8: der, Made: now.UTC()}, nil
}

func (r *keyRing) load(stored []storedKey) error {
	var keys []signingKey
	for _, s := range stored {
		parsed, err := x509.ParsePKCS8PrivateKey(s.PKCS8)
		private, ok := parsed.(*rsa.PrivateKey)
		if err != nil || !ok {
			return arm.Errorf(arm.CodeCorrupt, "the signing key %s does not decode", s.ID)
		}
		signer, err := jose.NewSigner(
			jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: private, KeyID: s.ID}},
			(&jose.SignerOptions{}).WithType("JWT"))
		if err != nil {
			return arm.Errorf(arm.CodeInternal, "use a signing key: %w", err)
		}
		keys = append(keys, signingKey{id: s.ID, private: private, signer: signer, made: s.Made})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
	return nil
}

// signer is the key that signs now.
func (r *keyRing) signer(ctx context.Context) (signingKey, error) {
	r.mu.RLock()
	first := r.keys[0]
	r.mu.RUnlock()
	if r.now().Sub(first.made) < keyAge {
		return first, nil
	}
	if err := r.refresh(ctx); err != nil {
		return signingKey{}, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[0], nil
}

// public is the key with an id, for reading.
func (r *keyRing) public(id string) (*rsa.PublicKey, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i := slices.IndexFunc(r.keys, func(k signingKey) bool { return k.id == id })
	if i < 0 {
		return nil, false
	}
	return &r.keys[i].private.PublicKey, true
}

// set is the public keys as clients read them.
func (r *keyRing) set() jose.JSONWebKeySet {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var s jose.JSONWebKeySet
	for _, k := range r.keys {
		s.Keys = append(s.Keys, jose.JSONWebKey{Key: &k.private.PublicKey, KeyID: k.id, Algorithm: string(jose.RS256), Use: "sig"})
	}
	return s
}
