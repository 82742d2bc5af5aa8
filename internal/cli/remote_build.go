package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/run"
)

// Versions of the interface that builds at a service use.
const (
	groupVersion    = "2021-04-01"
	templateVersion = "2022-07-01" // of a template that names none
)

// pollPause is between two looks at a template that is being made.
const pollPause = 500 * time.Millisecond

// cancelPatience is how long a service may take to accept a cancel.
const cancelPatience = 30 * time.Second

// buildAt submits a template to a service, runs it, and shows the run as a
// build of this host is shown.
func (a *app) buildAt(ctx context.Context, r *remote, file templateFile, flags buildFlags, view Progress) error {
	if len(flags.outputs)+len(flags.secrets)+len(flags.params) > 0 || flags.source != "" || flags.fromStep != "" || flags.noCache || flags.explain || flags.verify {
		return arm.Errorf(arm.CodeUsage, "--output, --source, --secret, --param and the flags of the cache work on a data directory, not through --server")
	}
	options, err := flags.template.options(r.subscription, false)
	if err != nil {
		return err
	}
	res, err := flags.template.parse(file, options, remotePlace(ctx, r, flags.group))
	if err != nil {
		return err
	}
	if err := WriteProblems(a.env.Stderr, FormatTable, file.path, res.Problems); err != nil {
		return err
	}
	if err := ProblemsError(file.path, res.Problems, true); err != nil {
		return headline(err)
	}
	name := firstOf(flags.name, file.name(res.Template))
	path := r.below("/resourceGroups/%s/providers/Microsoft.VirtualMachineImages/imageTemplates/%s", url.PathEscape(flags.group), url.PathEscape(name))
	return a.show(ctx, view, func(sink event.Sink) error {
		err := submitAt(ctx, r, path, flags.group, res)
		if err != nil {
			return err
		}
		return runAt(ctx, r, path, firstOf(res.Template.APIVersion, templateVersion), sink)
	})
}

// submitAt makes the template at the service, with its group, and waits until
// the service has taken it.
func submitAt(ctx context.Context, r *remote, path, group string, res imagetemplate.Result) error {
	if err := r.ensureGroup(ctx, group, res.Template.Location); err != nil {
		return err
	}
	if err := r.call(ctx, http.MethodPost, r.below("/providers/Microsoft.VirtualMachineImages/register"), groupVersion, nil, nil); err != nil {
		return err
	}
	body, err := submittedBody(res)
	if err != nil {
		return err
	}
	version := firstOf(res.Template.APIVersion, templateVersion)
	if err := r.call(ctx, http.MethodPut, path, version, body, nil); err != nil {
		return err
	}
	for {
		var t struct {
			Properties struct {
				State string `json:"provisioningState"`
				Error struct {
					Code    string `json:"provisioningErrorCode"`
					Message string `json:"message"`
				} `json:"provisioningError"`
			} `json:"properties"`
		}
		if err := r.call(ctx, http.MethodGet, path, version, nil, &t); err != nil {
			return err
		}
		switch t.Properties.State {
		case "Succeeded":
			return nil
		case "Failed":
			return &arm.Error{Code: arm.CodeValidationFailed, Message: "the service does not take the template: " + t.Properties.Error.Message}
		}
		pause := time.NewTimer(pollPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// ensureGroup makes a resource group where it is missing.
func (r *remote) ensureGroup(ctx context.Context, group, location string) error {
	path := r.below("/resourcegroups/%s", url.PathEscape(group))
	err := r.call(ctx, http.MethodGet, path, groupVersion, nil, nil)
	if arm.IsCode(err, arm.CodeGroupNotFound) {
		err = r.call(ctx, http.MethodPut, path, groupVersion, map[string]string{"location": location}, nil)
	}
	return err
}

// submittedBody is what of a template file is sent to a service.
func submittedBody(res imagetemplate.Result) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(res.Body, &members); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "the template's body does not decode: %w", err)
	}
	body := map[string]json.RawMessage{}
	for name, value := range members {
		switch strings.ToLower(name) {
		case "location", "tags", "identity", "properties":
			body[strings.ToLower(name)] = value
		}
	}
	return body, nil
}

// runAt runs a template at the service and hands the run's events on until it has
// ended. A cancel here cancels the run there.
func runAt(ctx context.Context, r *remote, path, version string, sink event.Sink) error {
	if err := r.call(ctx, http.MethodPost, path+"/run", version, nil, nil); err != nil {
		return err
	}
	runs := remoteRuns{r}
	newest, err := list[remoteRun](ctx, r, runs.path(""), extension, url.Values{"template": {path}, "$top": {"1"}}, 1)
	if err != nil {
		return err
	}
	if len(newest) == 0 {
		return arm.Errorf(arm.CodeInternal, "the service has started no run of %s", path)
	}
	rec := newest[0].record()
	outlive := context.WithoutCancel(ctx)
	stop := context.AfterFunc(ctx, func() {
		cancelCtx, done := context.WithTimeout(outlive, cancelPatience)
		defer done()
		if _, err := runs.cancel(cancelCtx, rec); err != nil {
			sink.Emit(event.Event{Run: rec.ID, Kind: event.Warning, Text: "the run could not be cancelled: " + err.Error()})
		}
	})
	defer stop()
	for e, err := range runs.follow(outlive, rec.ID) {
		if err != nil {
			return err
		}
		sink.Emit(e)
	}
	if rec, err = runs.get(outlive, rec.ID); err != nil {
		return err
	}
	switch rec.State {
	case run.Succeeded:
		return nil
	case run.Canceled:
		return arm.Errorf(arm.CodeCanceled, "%s", firstOf(rec.Message, "the build was canceled"))
	}
	return arm.Errorf(arm.CodeStepFailed, "%s", firstOf(rec.Message, "the run ended "+string(rec.State)))
}
