package contract_test

import (
	_ "embed"
	"encoding/json"
	"testing"

	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"

	"goldsmith/internal/build/buildtest"
)

//go:embed testdata/image.json
var imageDeployment []byte

// templateOf is a deployment template as the SDK sends it.
func templateOf(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Every operation on deployments once, with an image template that two deployments
// make and change nothing about.
func TestDeployments(t *testing.T) {
	b := newBuilder(t)
	ctx := t.Context()
	f, err := armresources.NewClientFactory(b.Engine.Subscription(), adminToken{}, &azarm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: b.Server.URL, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: b.Server.URL, Audience: b.Server.URL},
		}},
		Transport: b.Server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, group := f.NewDeploymentsClient(), buildtest.Group
	in := armresources.Deployment{Properties: &armresources.DeploymentProperties{
		Mode: to.Ptr(armresources.DeploymentModeIncremental), Template: templateOf(t, imageDeployment),
		Parameters: map[string]any{"imageName": map[string]any{"value": "golden"}},
	}}
	const name = "deploy-image"

	validated, err := c.BeginValidate(ctx, group, name, in, nil)
	v := must(t, validated, err)
	if v.Error != nil || *v.Properties.ProvisioningState != armresources.ProvisioningStateSucceeded || len(v.Properties.ValidatedResources) != 1 {
		t.Errorf("%+v", v)
	}
	whatIf := armresources.DeploymentWhatIf{Properties: &armresources.DeploymentWhatIfProperties{
		Mode: in.Properties.Mode, Template: in.Properties.Template, Parameters: in.Properties.Parameters,
	}}
	foreseen, err := c.BeginWhatIf(ctx, group, name, whatIf, nil)
	if w := must(t, foreseen, err); len(w.Properties.Changes) < 1 || *w.Properties.Changes[0].ChangeType != armresources.ChangeTypeCreate {
		t.Errorf("%+v", w.Properties)
	}
	if e, err := c.CheckExistence(ctx, group, name, nil); err != nil || e.Success {
		t.Errorf("%v %v", e, err)
	}
	made, err := c.BeginCreateOrUpdate(ctx, group, name, in, nil)
	d := must(t, made, err)
	outputs, _ := json.Marshal(d.Properties.Outputs)
	if *d.Properties.ProvisioningState != armresources.ProvisioningStateSucceeded ||
		string(outputs) != `{"image":{"type":"String","value":"`+b.ID("Microsoft.VirtualMachineImages/imageTemplates/golden")+`"},"state":{"type":"String","value":"Succeeded"}}` {
		t.Errorf("%+v %s", d.Properties, outputs)
	}
	got, err := b.templates.Get(ctx, group, "golden", nil)
	if err != nil || *got.Properties.ProvisioningState != "Succeeded" || *got.Tags["made-by"] != name {
		t.Errorf("%+v %v", got, err)
	}
	foreseen, err = c.BeginWhatIf(ctx, group, name, whatIf, nil)
	if w := must(t, foreseen, err); *w.Properties.Changes[0].ChangeType != armresources.ChangeTypeNoChange {
		t.Errorf("%+v", w.Properties.Changes[0])
	}
	made, err = c.BeginCreateOrUpdate(ctx, group, name, in, nil)
	must(t, made, err)
	if g, err := c.Get(ctx, group, name, nil); err != nil || *g.Name != name {
		t.Errorf("%v", err)
	}
	operations := 0
	for p := f.NewDeploymentOperationsClient().NewListPager(group, name, nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Value {
			operations++
			one, err := f.NewDeploymentOperationsClient().Get(ctx, group, name, *o.OperationID, nil)
			if err != nil || *one.Properties.TargetResource.ResourceName != "golden" {
				t.Errorf("%+v %v", one, err)
			}
		}
	}
	if operations != 1 {
		t.Errorf("%d operations", operations)
	}
	if e, err := c.ExportTemplate(ctx, group, name, nil); err != nil || e.Template == nil {
		t.Error(err)
	}
	if h, err := c.CalculateTemplateHash(ctx, in.Properties.Template, nil); err != nil || *h.TemplateHash != *d.Properties.TemplateHash {
		t.Errorf("%v %v", h, err)
	}
	listed := 0
	for p := c.NewListByResourceGroupPager(group, &armresources.DeploymentsClientListByResourceGroupOptions{Top: to.Ptr[int32](1)}); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Value)
	}
	if listed != 1 {
		t.Errorf("%d deployments", listed)
	}
	_, err = c.Cancel(ctx, group, name, nil)
	failed(t, err, 409, "DeploymentCannotBeCancelled")
	gone, err := c.BeginDelete(ctx, group, name, nil)
	must(t, gone, err)
	_, err = c.Get(ctx, group, name, nil)
	failed(t, err, 404, "DeploymentNotFound")

	// What the image builder refuses is the deployment's failure.
	in.Properties.Parameters = map[string]any{"imageName": map[string]any{"value": "golden"}, "step": map[string]any{"value": "another"}}
	refused, err := c.BeginCreateOrUpdate(ctx, group, name, in, nil)
	_, err = finished(t, refused, err)
	failed(t, err, 200, "DeploymentFailed")
	in.Properties.Parameters = map[string]any{}
	_, err = c.BeginCreateOrUpdate(ctx, group, name, in, nil)
	failed(t, err, 400, "InvalidTemplate")
}
