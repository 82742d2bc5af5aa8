package store

import (
	"context"
	"strconv"
	"strings"

	"goldsmith/internal/resource"
)

// List implements resource.Store. Every query walks an index inside the scope's
// range of keys, so the size of other groups does not matter.
func (s *resourceStore) List(ctx context.Context, q resource.Query) ([]resource.Record, string, error) {
	from, to := resource.Below(q.Scope)
	after, err := resource.ParsePageToken(q.PageToken)
	if err != nil {
		return nil, "", err
	}
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	column, table := "r.key", "resources r"
	if q.Tag != "" {
		// Walking the tag's own index finds the few that have it.
		column, table = "t.resource_key", "resource_tags t join resources r on r.key = t.resource_key"
		where = append(where, "t.tag_key = "+arg(strings.ToLower(q.Tag)))
		if q.TagValue != "" {
			where = append(where, "t.value = "+arg(q.TagValue))
		}
	}
	where = append(where, column+" >= "+arg(from), column+" < "+arg(to))
	if after != "" {
		where = append(where, column+" > "+arg(after))
	}
	if q.Type != "" {
		where = append(where, "r.type_key = "+arg(strings.ToLower(q.Type)))
	}
	query := `select ` + resourceColumns + ` from ` + table + ` where ` + strings.Join(where, " and ") + ` order by ` + column
	if q.PageSize > 0 {
		query += ` limit ` + arg(q.PageSize+1)
	}
	records, err := collect(ctx, s.db.read, scanResource, query, args...)
	if err != nil {
		return nil, "", s.db.fault(ctx, "list resources", err)
	}
	records, next := resource.Page(records, q.PageSize)
	return records, next, nil
}
