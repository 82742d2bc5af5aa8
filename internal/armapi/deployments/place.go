package deployments

import (
	"net/url"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
)

// A deployment has two paths: ".../providers/Microsoft.Resources/deployments/N",
// and the same without the provider, in which groups and subscriptions are types.
// Records are under the first.

// segments are the parts of the id of a request.
func segments(r *armapi.Request) []string { return strings.Split(strings.Trim(r.ID, "/"), "/") }

// groupOf is the name of the resource group of a request, "" for none.
func groupOf(r *armapi.Request) string {
	s := segments(r)
	if len(s) >= 4 && strings.EqualFold(s[2], "resourceGroups") {
		return s[3]
	}
	return ""
}

// scopeOf is the id of the group or the subscription that a request deploys to.
func scopeOf(r *armapi.Request) string {
	s := segments(r)
	if groupOf(r) != "" {
		return "/" + strings.Join(s[:4], "/")
	}
	return "/" + strings.Join(s[:2], "/")
}

// deploymentName is the name behind "deployments" in the id of a request.
func deploymentName(r *armapi.Request) string {
	s := segments(r)
	i := slices.IndexFunc(s, func(part string) bool { return strings.EqualFold(part, "deployments") })
	if i < 0 || i+1 >= len(s) {
		return ""
	}
	return s[i+1]
}

// idOf is the id of the deployment of a request.
func idOf(r *armapi.Request) string {
	return scopeOf(r) + "/providers/" + Type + "/" + deploymentName(r)
}

// host is the name under which the client knows the service.
func host(r *armapi.Request) string {
	u, err := url.Parse(r.Link("/", nil))
	if err != nil {
		return ""
	}
	return u.Host
}

// absent says what is missing when a deployment is.
func absent(r *armapi.Request, err error) error {
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Status(404, arm.Errorf(codeMissing, "deployment '%s' could not be found.", deploymentName(r)))
	}
	return err
}
