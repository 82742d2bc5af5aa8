package helper

import (
	"context"
	"errors"
	"reflect"

	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

// settle applies the settings of the build. Where neither the last build of this guest
// had any nor this one has, there is nothing to look for.
func (l *Linux) settle(ctx context.Context, s protocol.Settings) error {
	none := reflect.ValueOf(s).IsZero()
	if none && l.unsettled {
		return nil
	}
	l.unsettled = false
	trust, err := residue.Settle(l.root, s)
	l.unsettled = none && err == nil
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
