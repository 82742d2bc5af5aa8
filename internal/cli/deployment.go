package cli

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/jsontree"
)

// place is where a deployment template would be deployed: what its expressions
// about the subscription and the group are evaluated with.
type place struct{ subscription, group, location string }

// defaultRegion is the location of a group that is not there yet.
const defaultRegion = "westus2"

func placeOf(subscription, group string) place {
	if subscription == "" {
		subscription = uuid.Nil.String()
	}
	return place{subscription, firstOf(group, "goldsmith"), defaultRegion}
}

// localPlace is a group of the data directory.
func localPlace(ctx context.Context, e *build.Engine, group string) place {
	p := placeOf(e.Subscription(), group)
	if rec, err := e.Resources().Get(ctx, arm.GroupID(p.subscription, p.group)); err == nil {
		p.location = rec.Location
	}
	return p
}

// remotePlace is a group of a service.
func remotePlace(ctx context.Context, r *remote, group string) place {
	p := placeOf(r.subscription, group)
	var there struct {
		Location string `json:"location"`
	}
	// A group that cannot be read is said to be so by what comes next.
	if err := r.call(ctx, http.MethodGet, r.below("/resourcegroups/%s", url.PathEscape(p.group)), groupVersion, nil, &there); err == nil && there.Location != "" {
		p.location = there.Location
	}
	return p
}

// parse reads a template. Of a deployment template it is the one image template
// that it deploys, evaluated.
func (f *templateFlags) parse(file templateFile, o imagetemplate.Options, at place) (imagetemplate.Result, error) {
	n, err := jsontree.Parse(jsontree.Strict(file.body), jsontree.Limits{Bytes: armtemplate.MaxBytes, Depth: 64, Values: 500_000})
	if err != nil || !armtemplate.IsTemplate(n) {
		if f.parameters != "" {
			return imagetemplate.Result{}, arm.Errorf(arm.CodeUsage, "--parameters: %s is no deployment template, which alone has parameters", file.path)
		}
		return imagetemplate.Parse(file.body, o), nil
	}
	body, err := f.evaluate(n, o.Set, at)
	if arm.IsCode(err, arm.CodeUsage) {
		return imagetemplate.Result{}, err
	}
	if err != nil {
		return imagetemplate.Result{Problems: []imagetemplate.Problem{{
			Severity: imagetemplate.SeverityError, Code: arm.CodeOf(err), Message: err.Error(),
		}}}, nil
	}
	return imagetemplate.ParseNode(body, o), nil
}

// evaluate is the body of the image template in a deployment template. What it
// takes from set is removed there.
func (f *templateFlags) evaluate(n *jsontree.Node, set map[string]string, at place) (*jsontree.Node, error) {
	t, err := armtemplate.FromNode(n)
	if err != nil {
		return nil, err
	}
	given, err := f.given(t, set)
	if err != nil {
		return nil, err
	}
	d, err := t.Bind(armtemplate.Environment{
		Subscription: at.subscription, SubscriptionName: "Goldsmith", Tenant: uuid.Nil.String(), Name: "local", Mode: "Incremental",
		Group:    &armtemplate.Group{Name: at.group, Location: at.location},
		Endpoint: "https://localhost/", Time: time.Now().UTC(), NewGUID: uuid.NewString,
	}, given)
	if err != nil {
		return nil, err
	}
	var found *armtemplate.Resource
	for _, r := range d.Resources {
		if !r.Condition || r.Existing || !strings.EqualFold(r.Type, "Microsoft.VirtualMachineImages/imageTemplates") {
			continue
		}
		if found != nil {
			return nil, arm.Errorf(arm.CodeNotSupported, "the deployment template makes the image templates %s and %s, and more than one cannot be built at once: deploy it to a service", found.Name, r.Name)
		}
		found = r
	}
	if found == nil {
		return nil, arm.Errorf(arm.CodeNotSupported, "the deployment template makes no image template; those of nested deployments are found by a service only")
	}
	body, err := found.Body(nil)
	if err != nil {
		return nil, err
	}
	for _, m := range [][2]string{{"apiVersion", found.APIVersion}, {"type", found.Type}, {"name", found.Name}} {
		body.Members = append(body.Members, jsontree.Member{Key: m[0], Value: &jsontree.Node{Kind: jsontree.String, Text: m[1], Line: n.Line, Column: n.Column}, Line: n.Line, Column: n.Column})
	}
	body.Line, body.Column = n.Line, n.Column
	return body, nil
}

// given are the parameters of the file and of --set, which wins.
func (f *templateFlags) given(t *armtemplate.Template, set map[string]string) (*jsontree.Node, error) {
	out := &jsontree.Node{Kind: jsontree.Object}
	if f.parameters != "" {
		body, err := os.ReadFile(f.parameters)
		if err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "--parameters: %w", err)
		}
		n, err := parseLoose(body)
		if err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "--parameters %s: %w", f.parameters, err)
		}
		if inner := n.Fold("parameters"); inner != nil && inner.Kind == jsontree.Object {
			n = inner
		}
		out.Members = append(out.Members, n.Members...)
	}
	for name, value := range set {
		typ, known := t.Parameter(name)
		if !known {
			continue // a placeholder
		}
		delete(set, name)
		v := &jsontree.Node{Kind: jsontree.String, Text: value}
		if !strings.HasSuffix(typ, "String") {
			var err error
			if v, err = parseLoose([]byte(value)); err != nil {
				return nil, arm.Errorf(arm.CodeUsage, "--set %s: the parameter is of type %s, and the value is no JSON: %w", name, typ, err)
			}
		}
		// The last member of a name counts.
		out.Members = append(out.Members, jsontree.Member{Key: name, Value: &jsontree.Node{Kind: jsontree.Object, Members: []jsontree.Member{{Key: "value", Value: v}}}})
	}
	return out, nil
}

func parseLoose(text []byte) (*jsontree.Node, error) {
	return jsontree.Parse(jsontree.Strict(text), jsontree.Limits{Bytes: armtemplate.MaxBytes, Depth: 64, Values: 500_000})
}
