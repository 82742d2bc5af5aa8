package contract_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/virtualmachineimagebuilder/armvirtualmachineimagebuilder/v2"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build/buildtest"
)

// adminToken is a credential whose token is the administrator's.
type adminToken struct{}

func (adminToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: imagebuildertest.Admin, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// builder is the image builder's client of a door.
type builder struct {
	*imagebuildertest.Door
	templates  *sdk.VirtualMachineImageTemplatesClient
	triggers   *sdk.TriggersClient
	operations *sdk.OperationsClient
}

func newBuilder(t *testing.T) builder {
	t.Helper()
	d := imagebuildertest.New(t)
	d.Serve(1)
	f, err := sdk.NewClientFactory(d.Engine.Subscription(), adminToken{}, &azarm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: d.Server.URL, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: d.Server.URL, Audience: d.Server.URL},
		}},
		Transport: d.Server.Client(),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return builder{d, f.NewVirtualMachineImageTemplatesClient(), f.NewTriggersClient(), f.NewOperationsClient()}
}

// template is a template of the lab's base.
func (b builder) template(name, command string) sdk.ImageTemplate {
	identity := b.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder")
	return sdk.ImageTemplate{
		Location: to.Ptr(buildtest.Location),
		Identity: &sdk.ImageTemplateIdentity{
			Type:                   to.Ptr(sdk.ResourceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*sdk.UserAssignedIdentity{identity: {}},
		},
		Properties: &sdk.ImageTemplateProperties{
			Source: &sdk.ImageTemplatePlatformImageSource{
				Type: to.Ptr("PlatformImage"), Publisher: to.Ptr("Lab"), Offer: to.Ptr("linux"), SKU: to.Ptr("gen2"), Version: to.Ptr("latest"),
			},
			Customize: []sdk.ImageTemplateCustomizerClassification{
				&sdk.ImageTemplateShellCustomizer{Type: to.Ptr("Shell"), Name: to.Ptr("step"), Inline: []*string{to.Ptr(command)}},
			},
			Distribute: []sdk.ImageTemplateDistributorClassification{b.target(name)},
		},
	}
}

func (b builder) target(name string) *sdk.ImageTemplateManagedImageDistributor {
	return &sdk.ImageTemplateManagedImageDistributor{
		Type: to.Ptr("ManagedImage"), RunOutputName: to.Ptr(name), ImageID: to.Ptr(b.ID("Microsoft.Compute/images/" + name)), Location: to.Ptr(buildtest.Location),
	}
}

// finished polls to the end. Polls that wait 30 s would exceed its patience.
func finished[T any](t *testing.T, p *runtime.Poller[T], err error) (T, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	return p.PollUntilDone(ctx, nil)
}

func must[T any](t *testing.T, p *runtime.Poller[T], err error) T {
	t.Helper()
	v, err := finished(t, p, err)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// failed checks the code and status of an error.
func failed(t *testing.T, err error, status int, code string) {
	t.Helper()
	var r *azcore.ResponseError
	if !errors.As(err, &r) || r.StatusCode != status || r.ErrorCode != code {
		t.Errorf("the error is %v, want %d %s", err, status, code)
	}
}

func TestImageTemplates(t *testing.T) {
	b := newBuilder(t)
	ctx := t.Context()
	const group = buildtest.Group

	p, err := b.templates.BeginCreateOrUpdate(ctx, group, "first", b.template("first", "echo hello"), nil)
	made := must(t, p, err)
	if *made.Properties.ProvisioningState != sdk.ProvisioningStateSucceeded || made.Properties.Source.(*sdk.ImageTemplatePlatformImageSource).ExactVersion == nil {
		t.Errorf("made: %+v", made.Properties)
	}
	got, err := b.templates.Get(ctx, group, "first", nil)
	if err != nil || *got.Name != "first" || *got.Properties.ExactStagingResourceGroup == "" {
		t.Errorf("got: %+v, %v", got, err)
	}
	count := 0
	all := b.templates.NewListPager(nil)
	for all.More() {
		page, err := all.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Value)
	}
	inGroup := b.templates.NewListByResourceGroupPager(group, nil)
	for inGroup.More() {
		page, err := inGroup.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Value)
	}
	if count != 2 {
		t.Errorf("the two lists have %d templates", count)
	}
	up, err := b.templates.BeginUpdate(ctx, group, "first", sdk.ImageTemplateUpdateParameters{Tags: map[string]*string{"a": to.Ptr("b")}}, nil)
	if updated := must(t, up, err); *updated.Tags["a"] != "b" {
		t.Errorf("updated: %+v", updated.Tags)
	}
	up, err = b.templates.BeginUpdate(ctx, group, "first", sdk.ImageTemplateUpdateParameters{Properties: &sdk.ImageTemplateUpdateParametersProperties{
		Distribute: []sdk.ImageTemplateDistributorClassification{b.target("first"), b.target("second")},
		VMProfile:  &sdk.ImageTemplateVMProfile{OSDiskSizeGB: to.Ptr[int32](1)},
	}}, nil)
	if updated := must(t, up, err); len(updated.Properties.Distribute) != 2 {
		t.Errorf("updated: %+v", updated.Properties)
	}
	rp, err := b.templates.BeginRun(ctx, group, "first", nil)
	must(t, rp, err)
	outputs := 0
	list := b.templates.NewListRunOutputsPager(group, "first", nil)
	for list.More() {
		page, err := list.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		outputs += len(page.Value)
	}
	output, err := b.templates.GetRunOutput(ctx, group, "first", "second", nil)
	if err != nil || outputs != 2 || *output.Properties.ArtifactID != b.ID("Microsoft.Compute/images/second") {
		t.Errorf("%d outputs, %+v, %v", outputs, output, err)
	}
	dp, err := b.templates.BeginDelete(ctx, group, "first", nil)
	must(t, dp, err)
	_, err = b.templates.Get(ctx, group, "first", nil)
	failed(t, err, 404, "ResourceNotFound")
	dp, err = b.templates.BeginDelete(ctx, group, "first", nil)
	must(t, dp, err)
}

func TestImageTemplateErrors(t *testing.T) {
	b := newBuilder(t)
	ctx := t.Context()
	const group = buildtest.Group

	// A submission that is wrong, one that cannot be provisioned, one that is there.
	wrong := b.template("a", "x")
	wrong.Properties.Distribute = nil
	_, err := b.templates.BeginCreateOrUpdate(ctx, group, "a", wrong, nil)
	failed(t, err, 400, "ValidationFailed")
	lost := b.template("lost", "x")
	lost.Properties.Source.(*sdk.ImageTemplatePlatformImageSource).Offer = to.Ptr("none")
	p, err := b.templates.BeginCreateOrUpdate(ctx, group, "lost", lost, nil)
	_, err = finished(t, p, err)
	failed(t, err, 200, "ResourceNotFound")
	if got, err := b.templates.Get(ctx, group, "lost", nil); err != nil || *got.Properties.ProvisioningError.ProvisioningErrorCode != sdk.ProvisioningErrorCodeBadPIRSource {
		t.Errorf("%+v, %v", got.Properties, err)
	}
	p, err = b.templates.BeginCreateOrUpdate(ctx, group, "a", b.template("a", "exit 3"), nil)
	must(t, p, err)
	_, err = b.templates.BeginCreateOrUpdate(ctx, group, "a", b.template("a", "exit 4"), nil)
	failed(t, err, 409, "Conflict")

	// Runs: none to cancel, one that fails, one that is cancelled.
	_, err = b.templates.BeginCancel(ctx, group, "a", nil)
	failed(t, err, 405, "OperationNotAllowed")
	rp, err := b.templates.BeginRun(ctx, group, "a", nil)
	_, err = finished(t, rp, err)
	failed(t, err, 200, "PackerBuildFailed")
	reached := make(chan struct{}, 1)
	b.SetScript(buildtest.Script{Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if text != "" {
			reached <- struct{}{}
			<-ctx.Done()
		}
		return 0, false
	}})
	rp, err = b.templates.BeginRun(ctx, group, "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	_, err = b.templates.BeginRun(ctx, group, "a", nil)
	failed(t, err, 405, "OperationNotAllowed")
	_, err = b.templates.BeginDelete(ctx, group, "a", nil)
	failed(t, err, 405, "OperationNotAllowed")
	cp, err := b.templates.BeginCancel(ctx, group, "a", nil)
	must(t, cp, err)
	if _, err := finished(t, rp, nil); err == nil {
		t.Error("a cancelled run succeeded")
	}
	_, err = b.templates.GetRunOutput(ctx, group, "a", "none", nil)
	failed(t, err, 404, "ResourceNotFound")
}

func TestImageBuilderTriggers(t *testing.T) {
	b := newBuilder(t)
	ctx := t.Context()
	const group = buildtest.Group
	source := sdk.Trigger{Properties: &sdk.SourceImageTriggerProperties{Kind: to.Ptr("SourceImage")}}
	_, err := b.triggers.BeginCreateOrUpdate(ctx, group, "none", "t", source, nil)
	failed(t, err, 404, "ResourceNotFound")
	p, err := b.templates.BeginCreateOrUpdate(ctx, group, "a", b.template("a", "echo a"), nil)
	must(t, p, err)
	tp, err := b.triggers.BeginCreateOrUpdate(ctx, group, "a", "t", source, nil)
	if made := must(t, tp, err); *made.Properties.GetTriggerProperties().Kind != "SourceImage" {
		t.Errorf("made: %+v", made.Properties)
	}
	got, err := b.triggers.Get(ctx, group, "a", "t", nil)
	if err != nil || *got.Properties.GetTriggerProperties().Status.Code != "Healthy" {
		t.Errorf("got: %+v, %v", got, err)
	}
	page, err := b.triggers.NewListByImageTemplatePager(group, "a", nil).NextPage(ctx)
	if err != nil || len(page.Value) != 1 {
		t.Errorf("listed: %+v, %v", page, err)
	}
	dp, err := b.triggers.BeginDelete(ctx, group, "a", "t", nil)
	must(t, dp, err)
	_, err = b.triggers.Get(ctx, group, "a", "t", nil)
	failed(t, err, 404, "ResourceNotFound")
	operations, err := b.operations.NewListPager(nil).NextPage(ctx)
	if err != nil || len(operations.Value) != 13 {
		t.Errorf("%d operations, %v", len(operations.Value), err)
	}
}
