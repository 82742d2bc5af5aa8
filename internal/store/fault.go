package store

import (
	"context"
	"database/sql"
	"errors"
	"syscall"

	"goldsmith/internal/arm"
)

// fault turns an error of doing what into an arm.Error; errors that are one
// already, and the cancellation of ctx, keep their identity.
func (d *DB) fault(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	var coded *arm.Error
	if errors.As(err, &coded) {
		return err
	}
	// An interrupted statement has the driver's own code: the reason is in ctx.
	if ctx.Err() != nil {
		return arm.Errorf(arm.CodeCanceled, "%s: %w", what, context.Cause(ctx)).At(d.path)
	}
	if code, advice, ok := d.dialect.classify(err); ok {
		return arm.Errorf(code, "%s: %s: %w", what, advice, err).At(d.path)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return arm.Errorf(arm.CodeNoSpace, "%s: the disk that holds it is full; free some space and try again: %w", what, err).At(d.path)
	}
	return arm.Errorf(arm.CodeInternal, "%s: %w", what, err).At(d.path)
}

// missing is CodeNotFound when err says that a row is not there, else err.
func missing(err error, target, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return arm.Errorf(arm.CodeNotFound, "%s does not exist", what).At(target)
	}
	return err
}
