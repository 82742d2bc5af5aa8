package deployments

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/resource"
)

// A template can nest itself, by deployment().properties.template. These bounds, of
// which Azure has the same, keep that from filling the service.
const (
	maxNesting     = 5   // deployments that one is in
	maxDeployments = 800 // of a group, or of the subscription itself
	roomMade       = 50  // that are deleted when there are as many
)

const codeQuota arm.Code = "DeploymentQuotaExceeded"

// headerNesting says, in requests within the service, how many deployments the one
// that is asked for is in. Clients that set it bind themselves only.
const headerNesting = "X-Goldsmith-Nesting"

func nestingHeader(depth int) http.Header {
	return http.Header{http.CanonicalHeaderKey(headerNesting): {strconv.Itoa(depth)}}
}

func nesting(r *armapi.Request) (int, error) {
	text := r.Header.Get(headerNesting)
	if text == "" {
		return 0, nil
	}
	depth, err := strconv.ParseUint(text, 10, 16)
	if err != nil || depth > maxNesting {
		return 0, arm.Errorf(armtemplate.CodeInvalid, "the deployment '%s' is nested too deep: a deployment is in at most %d others", deploymentName(r), maxNesting)
	}
	return int(depth), nil
}

// makeRoom deletes the deployments of a scope that ended first when there are as
// many as there may be.
func (p *provider) makeRoom(ctx context.Context, r *armapi.Request) error {
	type ended struct{ id, etag, at string }
	var old []ended
	count := 0
	for q := (resource.Query{Scope: scopeOf(r), Type: Type, PageSize: 100}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return err
		}
		for _, rec := range records {
			if (groupOf(r) == "") != !strings.Contains(strings.ToLower(rec.ID), "/resourcegroups/") {
				continue
			}
			count++
			s, err := servedOf(rec)
			if err != nil {
				return err
			}
			if s.ProvisioningState != accepted && s.ProvisioningState != running {
				old = append(old, ended{rec.ID, rec.ETag, s.Timestamp})
			}
		}
		if next == "" {
			break
		}
		q.PageToken = next
	}
	if count < maxDeployments {
		return nil
	}
	if len(old) == 0 {
		return armapi.Status(http.StatusConflict, arm.Errorf(codeQuota, "creating the deployment '%s' would exceed the quota of '%d'. The current deployment count is '%d', and none of them has ended.", deploymentName(r), maxDeployments, count))
	}
	slices.SortFunc(old, func(a, b ended) int { return strings.Compare(a.at, b.at) })
	for _, d := range old[:min(roomMade, len(old))] {
		_, err := p.Store.Delete(ctx, d.id, resource.Condition{IfMatch: d.etag})
		if err != nil && !arm.IsCode(err, arm.CodeNotFound) && !arm.IsCode(err, arm.CodePreconditionFailed) {
			return err
		}
	}
	return nil
}
