package buildtest

import (
	"context"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// patience is how long Until waits.
const patience = 60 * time.Second

// PutGroup makes the lab's resource group, in which templates may do everything.
func (l *Lab) PutGroup() {
	l.Helper()
	l.Allow()
	_, _, err := l.Engine.Resources().Put(l.Context(), resource.Record{
		ID: arm.GroupID(l.Engine.Subscription(), Group), Type: "Microsoft.Resources/resourceGroups", Name: Group, Location: Location,
		Properties: []byte(`{"provisioningState":"Succeeded"}`),
	}, resource.Condition{})
	if err != nil {
		l.Fatal(err)
	}
}

// Submission is a request to the service to make t under name.
func (l *Lab) Submission(name string, t Template) build.Submission {
	l.Helper()
	req := l.Request(name, t)
	res := imagetemplate.Parse(req.Template.Body, imagetemplate.Options{APIVersion: req.Template.Template.APIVersion, Service: true})
	if res.Template == nil {
		l.Fatalf("the template is not valid: %+v", res.Problems)
	}
	id, err := arm.ParseID(l.ID("Microsoft.VirtualMachineImages/imageTemplates/" + name))
	if err != nil {
		l.Fatal(err)
	}
	return build.Submission{ID: id, Template: res}
}

// Serve runs the engine's service until stop is called or the test ends; stop
// waits for it.
func (l *Lab) Serve(slots int) (stop func()) {
	l.Helper()
	ctx, cancel := context.WithCancel(l.Context())
	done := make(chan error, 1)
	go func() { done <- l.Engine.Serve(ctx, slots) }()
	stopped := false
	stop = func() {
		l.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			l.Error(err)
		}
	}
	l.Cleanup(stop)
	return stop
}

// Until waits until done; what says what for.
func (l *Lab) Until(what string, done func() bool) {
	l.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late.C:
			l.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// Provisioned waits until a template is neither being made nor changed, and
// returns its record.
func (l *Lab) Provisioned(id string) (resource.Record, build.Served) {
	l.Helper()
	var rec resource.Record
	var served build.Served
	l.Until("the template is provisioned", func() bool {
		var err error
		if rec, err = l.Engine.Resources().Get(l.Context(), id); err != nil {
			l.Fatal(err)
		}
		if served, err = build.Describe(rec); err != nil {
			l.Fatal(err)
		}
		return served.State == build.StateSucceeded || served.State == build.StateFailed
	})
	return rec, served
}

// Ended waits until a run has ended and returns its record.
func (l *Lab) Ended(id string) run.Record {
	l.Helper()
	return l.In(id, run.State.Ended)
}

// In waits until a run is in a state that is as wanted.
func (l *Lab) In(id string, wanted func(run.State) bool) run.Record {
	l.Helper()
	var rec run.Record
	l.Until("the run is in the state", func() bool {
		var err error
		if rec, err = l.Engine.Runs().Get(l.Context(), id); err != nil {
			l.Fatal(err)
		}
		return wanted(rec.State)
	})
	return rec
}
