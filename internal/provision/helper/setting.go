package helper

import (
	"context"
	"errors"

	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

// settle applies the settings of the build.
func (l *Linux) settle(ctx context.Context, s protocol.Settings) error {
	trust, err := residue.Settle(l.root, s)
	if trust {
		err = errors.Join(err, renewTrust(ctx))
	}
	return err
}

// renewTrust makes the bundle of trusted certificates anew with the guest's tool.
func renewTrust(ctx context.Context) error {
	_, err := run(ctx, "update-ca-certificates")
	if errors.Is(err, errNoProgram) {
		_, err = run(ctx, "update-ca-trust", "extract")
	}
	return err
}
