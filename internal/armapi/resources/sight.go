package resources

import (
	"context"
	"slices"
	"strings"

	"goldsmith/internal/armapi"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// sees reports whether the caller has any right in the subscription: sign-in
// tools show the subscriptions in which somebody can do something.
func (p *provider) sees(ctx context.Context, r *armapi.Request) (bool, error) {
	scope := "/subscriptions/" + p.Subscription
	if ok, err := r.Allowed(ctx, "Microsoft.Resources/subscriptions/read", scope); err != nil || ok {
		return ok, err
	}
	for q := (resource.Query{Scope: scope, Type: rbac.TypeAssignment, PageSize: 1000}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return false, err
		}
		for _, rec := range records {
			a, err := rbac.ParseAssignment(rec.ID, rec.Properties)
			if err != nil {
				return false, err
			}
			if strings.EqualFold(a.Principal, r.Caller.ObjectID) || slices.ContainsFunc(r.Caller.Groups, func(g string) bool { return strings.EqualFold(g, a.Principal) }) {
				return true, nil
			}
		}
		if next == "" {
			return false, nil
		}
		q.PageToken = next
	}
}
