package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"
)

// Settings are the identities of an installation, made once and never changed.
// All are lower-case GUIDs.
type Settings struct {
	SubscriptionID string // the subscription of local resources
	TenantID       string // the tenant that it belongs to
	NodeID         string // this data directory
}

// Settings returns the installation's settings and makes them when there are
// none. Concurrent first callers get the same ones.
func (d *DB) Settings(ctx context.Context) (Settings, error) {
	const query = `select subscription_id, tenant_id, node_id from settings where only_row = 1`
	read := func(q querier) (s Settings, err error) {
		err = q.QueryRowContext(ctx, query).Scan(&s.SubscriptionID, &s.TenantID, &s.NodeID)
		return s, err
	}
	s, err := read(d.read)
	if errors.Is(err, sql.ErrNoRows) {
		err = d.tx(ctx, func(tx transaction) error {
			if _, err := tx.ExecContext(ctx,
				`insert into settings (only_row, subscription_id, tenant_id, node_id) values (1, $1, $2, $3) on conflict do nothing`,
				uuid.NewString(), uuid.NewString(), uuid.NewString()); err != nil {
				return err
			}
			s, err = read(tx)
			return err
		})
	}
	return s, d.fault(ctx, "read settings", err)
}
