package provision

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"goldsmith/internal/arm"
	"goldsmith/internal/provision/protocol"
)

// entropyBytes is what a guest's random number generator gets: twice its state.
const entropyBytes = 64

// Identity is what makes one build's guest unlike every other one: both sides'
// keys of its SSH connection. It is made for one run and never stored.
type Identity struct {
	// HostKey is the guest's public key; the builder talks to no other.
	HostKey ssh.PublicKey
	// UserKey signs in as the build user.
	UserKey ssh.Signer

	hostPrivate string
}

// NewIdentity makes fresh ed25519 keys.
func NewIdentity() (*Identity, error) {
	hostPublic, hostPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, keyError(err)
	}
	_, userPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, keyError(err)
	}
	block, err := ssh.MarshalPrivateKey(hostPrivate, "")
	if err != nil {
		return nil, keyError(err)
	}
	hostKey, err := ssh.NewPublicKey(hostPublic)
	if err != nil {
		return nil, keyError(err)
	}
	userKey, err := ssh.NewSignerFromKey(userPrivate)
	if err != nil {
		return nil, keyError(err)
	}
	return &Identity{HostKey: hostKey, UserKey: userKey, hostPrivate: string(pem.EncodeToMemory(block))}, nil
}

func keyError(err error) error {
	return arm.Errorf(arm.CodeInternal, "cannot make the keys of the build: %w", err)
}

// request is the identity as the helper takes it.
func (i *Identity) request(now time.Time, user string, s protocol.Settings) protocol.Identify {
	entropy := make([]byte, entropyBytes)
	_, _ = rand.Read(entropy) // never fails (crypto/rand)
	line := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	return protocol.Identify{
		Entropy: entropy, UnixNanos: now.UnixNano(),
		HostKey: i.hostPrivate, HostPublicKey: line(i.HostKey) + "\n",
		User: user, AuthorizedKey: line(i.UserKey.PublicKey()), Settings: s,
	}
}
