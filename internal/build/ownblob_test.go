package build_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// readers are the principals that may read blobs, by scope.
type readers struct {
	mu    sync.Mutex
	right map[string]string
	asked []authorization.Request
}

// Check implements build.BlobAuthorizer.
func (r *readers) Check(_ context.Context, q authorization.Request) (rbac.Decision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q)
	return rbac.Decision{Allowed: r.right[q.Principal] == q.Scope && q.Data && strings.HasSuffix(q.Action, "/blobs/read")}, nil
}

const (
	scripts    = "scripts01"
	scriptURI  = "https://scripts01.blob.core.windows.net/private/dir/hello.sh"
	scriptText = "#!/bin/sh\necho hello\n"
)

// blobLab is a lab with a script in a private container, and the id of that.
func blobLab(t *testing.T, options ...buildtest.Option) (l *buildtest.Lab, container string) {
	t.Helper()
	l = buildtest.New(t, options...)
	l.PutGroup()
	put := func(id, kind, name, properties string) {
		t.Helper()
		_, _, err := l.Engine.Resources().Put(t.Context(), resource.Record{ID: id, Type: kind, Name: name, Properties: json.RawMessage(properties)}, resource.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	id := l.ID("Microsoft.Storage/storageAccounts/" + scripts)
	put(id, account.Type, scripts, `{}`)
	put(l.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"), "Microsoft.ManagedIdentity/userAssignedIdentities", "builder", `{"principalId":"the-builder","clientId":"c"}`)
	ctx := t.Context()
	for _, err := range []error{l.Engine.Blobs().CreateAccount(ctx, scripts), l.Engine.Blobs().CreateContainer(ctx, scripts, "private")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n := blob.Name{Account: scripts, Container: "private", Blob: "dir/hello.sh"}
	if _, err := l.Engine.Blobs().Put(ctx, n, strings.NewReader(scriptText), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return l, id + "/blobServices/default/containers/private"
}

// submit submits a template with a script and returns what stops it.
func submit(l *buildtest.Lab, uri string) error {
	l.Helper()
	req := l.Request("blobs", buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("script", uri, "")}})
	_, err := l.Engine.Submit(l.Context(), "11111111-1111-4111-8111-111111111111", req, event.SinkFunc(func(event.Event) {}))
	return err
}

func TestScriptsInAPrivateContainer(t *testing.T) {
	who := &readers{right: map[string]string{}}
	l, scope := blobLab(t, func(c *build.Config) { c.BlobAccess = who })
	err := submit(l, scriptURI)
	if !arm.IsCode(err, arm.CodeUnauthorized) {
		t.Fatalf("without the right: %v", err)
	}
	for _, want := range []string{
		"Not authorized to access the resource: " + scriptURI + ". Please check the user assigned identity has the correct permissions.",
		"the-builder", "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", scope, "Storage Blob Data Reader", "/properties/customize/0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	who.right["the-builder"] = strings.Replace(scope, "private", "other", 1)
	if err := submit(l, scriptURI); !arm.IsCode(err, arm.CodeUnauthorized) {
		t.Errorf("with the right elsewhere: %v", err)
	}
	who.right["the-builder"] = scope
	if err := submit(l, scriptURI); err != nil {
		t.Fatal(err)
	}
	if err := submit(l, strings.Replace(scriptURI, "hello", "none", 1)); !arm.IsCode(err, arm.CodeFetchFailed) {
		t.Errorf("a blob that is not there: %v", err)
	}
	// Another's account of the same cloud is fetched like everything else.
	if _, ours, err := l.Engine.OwnBlob(t.Context(), strings.Replace(scriptURI, scripts, "elsewhere", 1)); ours || err != nil {
		t.Errorf("%v, %v", ours, err)
	}
}

// TestLaterRunsDoNotNeedTheRight submits with the right, takes it away with the
// blob, and runs.
func TestLaterRunsDoNotNeedTheRight(t *testing.T) {
	who := &readers{right: map[string]string{}}
	l, scope := blobLab(t, func(c *build.Config) { c.BlobAccess = who })
	who.right["the-builder"] = scope
	l.Register()
	l.Assign("the-builder", rbac.Contributor, "/subscriptions/"+l.Engine.Subscription())
	right := l.Assign("the-builder", rbac.StorageBlobDataReader, scope)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("frozen", buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("script", scriptURI, "")}}))
	if err != nil {
		t.Fatal(err)
	}
	l.Serve(1)
	if _, served := l.Provisioned(rec.ID); served.State != build.StateSucceeded {
		t.Fatalf("%+v", served.Problem)
	}
	who.mu.Lock()
	who.right, who.asked = map[string]string{}, nil
	who.mu.Unlock()
	if _, err := l.Engine.Resources().Delete(t.Context(), right, resource.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Engine.Blobs().DeleteContainer(t.Context(), scripts, "private"); err != nil {
		t.Fatal(err)
	}
	started, err := l.Engine.StartRun(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ended := l.Ended(started.ID); ended.State != run.Succeeded {
		t.Fatalf("%+v", ended)
	}
	if len(who.asked) > 0 {
		t.Errorf("the run asked for %+v", who.asked)
	}
}

func TestScriptsBySignatureAndInPublic(t *testing.T) {
	who := &readers{right: map[string]string{}}
	l, _ := blobLab(t, func(c *build.Config) { c.BlobAccess = who })
	a, err := l.Engine.StorageAccounts().Find(t.Context(), scripts)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(blob, permission string, expiry time.Time) string {
		se := expiry.UTC().Format("2006-01-02T15:04:05Z")
		text := strings.Join([]string{permission, "", se, "/blob/" + scripts + "/private/" + blob, "", "", "", "2022-11-02", "b", "", "", "", "", "", "", ""}, "\n")
		return url.Values{"sv": {"2022-11-02"}, "sr": {"b"}, "sp": {permission}, "se": {se}, "sig": {signature.Sign(a.Secrets.Keys[0].Value, text)}}.Encode()
	}
	later := time.Now().Add(time.Hour)
	for what, query := range map[string]string{
		"expired": sign("dir/hello.sh", "r", time.Now().Add(-time.Minute)), "another blob's": sign("dir/other.sh", "r", later), "to write": sign("dir/hello.sh", "w", later),
		"forged": strings.Replace(sign("dir/hello.sh", "r", later), "sig=", "sig=A", 1),
	} {
		err := submit(l, scriptURI+"?"+query)
		if !arm.IsCode(err, arm.CodeUnauthorized) || strings.Contains(err.Error(), "sig=") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := submit(l, scriptURI+"?"+sign("dir/hello.sh", "r", later)); err != nil {
		t.Errorf("signed: %v", err)
	}
	if _, err := l.Engine.Blobs().UpdateContainer(t.Context(), scripts, "private", func(i *blob.ContainerInfo) error { i.Access = blob.AccessBlob; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := submit(l, scriptURI); err != nil {
		t.Errorf("public: %v", err)
	}
}

type noTokens struct{}

func (noTokens) IdentityToken(context.Context, string, string) (imds.Token, error) {
	return imds.Token{}, context.Canceled
}

func TestIdentitiesOfTheBuildVM(t *testing.T) {
	identity := func(l *buildtest.Lab, name string) buildtest.Template {
		return buildtest.Template{VMProfile: buildtest.Object{"userAssignedIdentities": []string{l.ID("Microsoft.ManagedIdentity/userAssignedIdentities/" + name)}}}
	}
	l, _ := blobLab(t)
	if rec, err := l.Engine.Submit(t.Context(), "11111111-1111-4111-8111-111111111112", l.Request("vm", identity(l, "builder")), event.SinkFunc(func(event.Event) {})); !arm.IsCode(err, arm.CodeNotSupported) {
		t.Errorf("nobody issues tokens: %+v, %v", rec, err)
	}
	l, _ = blobLab(t, func(c *build.Config) { c.Tokens = noTokens{} })
	l.Register()
	l.Assign("the-builder", rbac.Owner, "/subscriptions/"+l.Engine.Subscription())
	l.Serve(1)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("vm-builder", identity(l, "builder")))
	if err != nil {
		t.Fatal(err)
	}
	l.Provisioned(rec.ID)
	started, err := l.Engine.StartRun(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ended := l.Ended(started.ID); ended.State != run.Succeeded {
		t.Errorf("%+v", ended)
	}
	// An identity that is not there stops the submission.
	rec, _, err = l.Engine.CreateTemplate(t.Context(), l.Submission("vm-deleted", identity(l, "deleted")))
	if err != nil {
		t.Fatal(err)
	}
	if _, served := l.Provisioned(rec.ID); served.State != build.StateFailed || served.Problem == nil || !strings.Contains(served.Problem.Message, "userAssignedIdentities/deleted") {
		t.Errorf("%+v", served.Problem)
	}
}

// What a step did with the tokens of one identity is not another's.
func TestLayersOfOtherIdentitiesAreNotReused(t *testing.T) {
	const builder = "Microsoft.ManagedIdentity/userAssignedIdentities/builder"
	l, _ := blobLab(t, everyStep, func(c *build.Config) { c.Tokens = noTokens{} })
	l.Allow()
	l.Put(l.ID(builder+"-two"), "Microsoft.ManagedIdentity/userAssignedIdentities", buildtest.Object{"principalId": "other", "clientId": "c"})
	names := func(all ...string) buildtest.Object {
		ids := []string{}
		for _, n := range all {
			ids = append(ids, l.ID(n))
		}
		return buildtest.Object{"userAssignedIdentities": ids}
	}
	for _, c := range []struct {
		why     string
		profile buildtest.Object
		want    string
	}{
		{"no identity", names(), "|a b"},
		{"one", names(builder), "|a b"},
		{"the same", names(strings.ToUpper(builder[:9]) + builder[9:]), "a b|"},
		{"two", names(builder, builder+"-two"), "|a b"},
		{"two, in another order", names(builder+"-two", builder), "a b|"},
		{"none again", names(), "a b|"},
	} {
		req := l.Request("one", buildtest.Template{Customize: steps("a", "b"), VMProfile: c.profile})
		req.Cache.MaxAge = build.DefaultMaxAge
		if _, got, events := mustBuild(t, l, req); got != c.want {
			t.Errorf("%s: %s, want %s\n%s", c.why, got, c.want, events.Text())
		}
	}
	// Made anew under its name it is another.
	l.Put(l.ID(builder), "Microsoft.ManagedIdentity/userAssignedIdentities", buildtest.Object{"principalId": "made anew", "clientId": "d"})
	req := l.Request("one", buildtest.Template{Customize: steps("a", "b"), VMProfile: names(builder)})
	req.Cache.MaxAge = build.DefaultMaxAge
	if _, got, events := mustBuild(t, l, req); got != "|a b" {
		t.Errorf("made anew: %s\n%s", got, events.Text())
	}
}
