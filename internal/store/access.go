package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/audit"
	"goldsmith/internal/resource"
)

// AccessGeneration is a number that changes with every write, of any process,
// to a role definition, a role assignment, the registration of the Image Builder
// service or the membership in a group.
func (d *DB) AccessGeneration(ctx context.Context) (int64, error) {
	var n int64
	err := d.read.QueryRowContext(ctx, `select generation from access where only_row = 1`).Scan(&n)
	return n, d.fault(ctx, "read the access generation", err)
}

// Audit is the record of decisions about access.
func (d *DB) Audit() audit.Store { return auditStore{d} }

type auditStore struct{ db *DB }

const auditColumns = `seq, first_at, last_at, times, principal_key, action, scope, data, allowed, assignment, role, run, why`

// auditBatch is how many rows one statement inserts.
const auditBatch = 64

// Append implements audit.Store.
func (s auditStore) Append(ctx context.Context, records []audit.Record, keep int64) error {
	return s.db.fault(ctx, "write the audit", s.db.tx(ctx, func(tx transaction) error {
		for batch := range slices.Chunk(records, auditBatch) {
			var b strings.Builder
			b.WriteString(`insert into audit (first_at, last_at, times, principal_key, action, scope, scope_key, data, allowed, assignment, role, run, why) values `)
			args := make([]any, 0, 13*len(batch))
			for i, r := range batch {
				if i > 0 {
					b.WriteString(", ")
				}
				b.WriteString("(")
				for c := range 13 {
					if c > 0 {
						b.WriteString(", ")
					}
					fmt.Fprintf(&b, "$%d", 13*i+c+1)
				}
				b.WriteString(")")
				args = append(args, toMillis(r.Time), toMillis(r.Last), r.Count, strings.ToLower(r.Principal), r.Action, r.Scope,
					resource.Key(r.Scope), toInt(r.Data), toInt(r.Allowed), r.Assignment, r.Role, strings.ToLower(r.Run), r.Why)
			}
			if _, err := tx.ExecContext(ctx, b.String(), args...); err != nil {
				return err
			}
		}
		if keep <= 0 {
			return nil
		}
		_, err := tx.ExecContext(ctx, `delete from audit where seq <= (select max(seq) from audit) - $1`, keep)
		return err
	}))
}

// List implements audit.Store.
func (s auditStore) List(ctx context.Context, q audit.Query) ([]audit.Record, error) {
	where := []string{"seq > $1"}
	args := []any{q.After}
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	if q.Run != "" {
		run := strings.ToLower(q.Run)
		where = append(where, fmt.Sprintf("run >= %s and run < %s and run <> ''", arg(run), arg(run+"g"))) // g follows every digit of an id
	}
	if q.Principal != "" {
		where = append(where, "principal_key = "+arg(strings.ToLower(q.Principal)))
	}
	if q.Scope != "" {
		from, to := resource.Below(q.Scope)
		where = append(where, fmt.Sprintf("(scope_key = %s or scope_key >= %s and scope_key < %s)", arg(resource.Key(q.Scope)), arg(from), arg(to)))
	}
	if q.Denied {
		where = append(where, "allowed = 0")
	}
	if !q.Since.IsZero() {
		where = append(where, "last_at >= "+arg(toMillis(q.Since)))
	}
	query := `select ` + auditColumns + ` from audit where ` + strings.Join(where, " and ") + ` order by seq desc`
	if q.Limit > 0 {
		query += " limit " + arg(q.Limit)
	}
	records, err := collect(ctx, s.db.read, scanAudit, query, args...)
	slices.Reverse(records)
	return records, s.db.fault(ctx, "read the audit", err)
}

func scanAudit(row scanner) (audit.Record, error) {
	var r audit.Record
	var first, last int64
	err := row.Scan(&r.Seq, &first, &last, &r.Count, &r.Principal, &r.Action, &r.Scope, &r.Data, &r.Allowed,
		&r.Assignment, &r.Role, &r.Run, &r.Why)
	r.Time, r.Last = fromMillis(first), fromMillis(last)
	return r, err
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
