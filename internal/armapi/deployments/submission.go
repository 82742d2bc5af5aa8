package deployments

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/jsontree"
)

// Codes of deployments.
const (
	codeFailed    arm.Code = "DeploymentFailed"
	codeActive    arm.Code = "DeploymentActive"
	codeInvalid   arm.Code = "InvalidTemplateDeployment"
	codeNotActive arm.Code = "DeploymentCannotBeCancelled"
	codeMissing   arm.Code = "DeploymentNotFound"
	codeOutputs   arm.Code = "DeploymentOutputEvaluationFailed"
)

// submission is a request to deploy, to validate or to say what would happen.
type submission struct {
	template     *armtemplate.Template
	deployment   *armtemplate.Deployment
	env          armtemplate.Environment
	tags         map[string]string
	resultFormat string // of whatIf
}

// submission reads the body of a request and evaluates what can be before anything
// is deployed.
func (p *provider) submission(ctx context.Context, r *armapi.Request) (submission, error) {
	var s submission
	body, err := r.Tree()
	if err != nil {
		return s, err
	}
	props := body.Fold("properties")
	if props == nil || props.Kind != jsontree.Object {
		return s, arm.Errorf(arm.CodeInvalidJSON, "the request content has no 'properties': they are {\"mode\", \"template\", \"parameters\"}")
	}
	for _, link := range []string{"templateLink", "parametersLink"} {
		if n := props.Fold(link); n != nil && n.Kind != jsontree.Null {
			return s, arm.Errorf("InvalidRequestContent", "'%s' is not offered: this service fetches no templates. Send the template itself in 'template', and parameters in 'parameters'.", link).At("properties." + link)
		}
	}
	if n := props.Fold("onErrorDeployment"); n != nil && n.Kind == jsontree.Object {
		return s, arm.Errorf("InvalidRequestContent", "'onErrorDeployment' is not offered: deploy the earlier template again instead").At("properties.onErrorDeployment")
	}
	template := props.Fold("template")
	if template == nil || template.Kind != jsontree.Object {
		return s, arm.Errorf("InvalidRequestContent", "the request content has no template: 'properties.template' must be a JSON object").At("properties.template")
	}
	if s.env, err = p.environment(ctx, r); err != nil {
		return s, err
	}
	if s.env.Mode, err = mode(props, s.env); err != nil {
		return s, err
	}
	if n := body.Fold("location"); n != nil && s.env.Group == nil {
		s.env.Location = n.Text
	} else if s.env.Group == nil {
		return s, arm.Errorf("LocationRequired", "the location property is required for a deployment of a subscription.").At("location")
	}
	if n := props.Fold("whatIfSettings").Fold("resultFormat"); n != nil {
		s.resultFormat = n.Text
	}
	var tagged struct {
		Tags map[string]string `json:"tags"`
	}
	if err := r.Decode(&tagged); err != nil {
		return s, err
	}
	if s.tags = tagged.Tags; armapi.CheckTags(s.tags) != nil {
		return s, armapi.CheckTags(s.tags)
	}
	if s.template, err = armtemplate.FromNode(template); err != nil {
		return s, err
	}
	s.deployment, err = s.template.Bind(s.env, props.Fold("parameters"))
	return s, err
}

func mode(props *jsontree.Node, env armtemplate.Environment) (string, error) {
	n := props.Fold("mode")
	switch {
	case n == nil, strings.EqualFold(n.Text, "Incremental"):
		return "Incremental", nil
	case strings.EqualFold(n.Text, "Complete") && env.Group != nil:
		return "Complete", nil
	case strings.EqualFold(n.Text, "Complete"):
		return "", arm.Errorf(arm.CodeInvalidJSON, "the mode 'Complete' is for deployments of resource groups").At("properties.mode")
	}
	return "", arm.Errorf(arm.CodeInvalidJSON, "the mode '%.20s' is not known: 'Incremental' and 'Complete' are", n.Text).At("properties.mode")
}

// environment is what expressions know of where the deployment of a request is.
func (p *provider) environment(ctx context.Context, r *armapi.Request) (armtemplate.Environment, error) {
	env := armtemplate.Environment{
		Subscription: p.Subscription, SubscriptionName: p.Name, Tenant: p.Tenant, Name: deploymentName(r),
		Endpoint: r.Link("/", nil), StorageSuffix: p.StorageSuffix, Time: p.Now().UTC(), NewGUID: uuid.NewString,
	}
	var err error
	env.Group, err = p.group(ctx, groupOf(r))
	return env, err
}

// group is a resource group that can be deployed to, nil for no name.
func (p *provider) group(ctx context.Context, name string) (*armtemplate.Group, error) {
	if name == "" {
		return nil, nil
	}
	rec, err := p.Store.Get(ctx, arm.GroupID(p.Subscription, name))
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil, armapi.ErrGroupNotFound(name)
	}
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(rec.Properties), `"Deleting"`) {
		return nil, armapi.ErrGroupBeingDeleted(name)
	}
	return &armtemplate.Group{Name: rec.Name, Location: rec.Location, Tags: rec.Tags}, nil
}

// check asks, for each resource, whether the caller may write it and the service
// has it. What is wrong is said at once, before anything is made.
func (p *provider) check(ctx context.Context, r *armapi.Request, s submission) error {
	var all []*arm.Error
	var messages []string
	forbidden := false
	for _, res := range s.deployment.Resources {
		if !res.Condition || res.Existing {
			continue
		}
		_, err := p.Call(ctx, armapi.Call{Caller: r.Caller, Host: host(r), Method: http.MethodPut, Path: res.ID, Version: res.APIVersion, Try: true})
		if err == nil {
			continue
		}
		var e *arm.Error
		if !errors.As(err, &e) || ctx.Err() != nil {
			return err
		}
		if e.Code == "AuthorizationFailed" {
			forbidden = true
			e = arm.Errorf(e.Code, "authorization failed for template resource '%s' of type '%s'. %s", res.Name, res.Type, armapi.FaultOf(err).Message)
		}
		all = append(all, e.At(res.ID))
		messages = append(messages, armapi.FaultOf(e).Message)
	}
	if len(all) == 0 {
		return nil
	}
	out := arm.Errorf(codeInvalid, "the template deployment '%s' is not valid according to the validation procedure. The tracking id is '%s'. See inner errors for details.", s.env.Name, r.RequestID)
	status := http.StatusBadRequest
	if forbidden {
		out = arm.Errorf(codeInvalid, "deployment failed with multiple errors: '%s'", strings.Join(messages, ":"))
		status = http.StatusForbidden
	}
	out.Details = all
	return armapi.Status(status, out)
}
