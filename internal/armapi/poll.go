package armapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"goldsmith/internal/arm"
)

// Accepted answers a request that began an operation: status and body, with
// Azure-AsyncOperation, and Location too when asked for (of DELETE and POST).
// The address is
// /subscriptions/S/providers/NAMESPACE/locations/LOCATION/operations/ID.
func (r *Request) Accepted(status int, body any, op Operation, location string, withLocation bool) Response {
	namespace, _, _ := strings.Cut(r.Type, "/")
	path := ProviderID(r.Subscription, namespace) + "/locations/" + url.PathEscape(locationName(location)) + "/operations/" + op.ID
	return r.AcceptedAt(status, body, path, withLocation)
}

// AcceptedAt is Accepted with the path of the operation's state.
func (r *Request) AcceptedAt(status int, body any, path string, withLocation bool) Response {
	link := r.Link(path, url.Values{"api-version": {r.Version}})
	resp := withRetry(Response{Status: status, Body: body}).With("Azure-AsyncOperation", link)
	if withLocation {
		resp = resp.With("Location", link)
	}
	return resp
}

// AcceptedResult answers a request that began an operation in the older way: 202
// with a Location that is 202 until it is 200, or the error.
func (r *Request) AcceptedResult(op Operation) Response {
	return withRetry(Response{Status: http.StatusAccepted}).With("Location", r.resultLink(op))
}

func (r *Request) resultLink(op Operation) string {
	return r.Link("/subscriptions/"+r.Subscription+"/operationresults/"+op.ID, url.Values{"api-version": {r.Version}})
}

// Wire is the operation as clients poll it. Its name is in upper case, as the
// real service's is.
func (op Operation) Wire() map[string]any {
	body := map[string]any{"name": strings.ToUpper(op.ID), "status": op.Status, "startTime": timestamp(op.Start)}
	if !op.End.IsZero() {
		body["endTime"] = timestamp(op.End)
	}
	if op.Fault != nil {
		body["error"] = op.Fault
	}
	return body
}

// status answers GET .../locations/LOCATION/operations/ID of every provider.
func (o *operations) status(ctx context.Context, r *Request) (Response, error) {
	op, err := r.Operation(ctx, r.Name())
	if err != nil {
		return Response{}, err
	}
	return Poll(op.Wire()), nil
}

// Poll is a 200 that says when to ask again.
func Poll(body any) Response { return withRetry(OK(body)) }

// result answers GET /subscriptions/S/operationresults/ID.
func (o *operations) result(ctx context.Context, r *Request) (Response, error) {
	op, err := r.Operation(ctx, r.Name())
	switch {
	case err != nil:
		return Response{}, err
	case op.Status == InProgress:
		return r.AcceptedResult(op), nil
	case op.Fault != nil:
		return Response{}, Status(max(op.HTTP, http.StatusBadRequest), op.Fault.err())
	}
	return Response{}, nil
}

// err is the fault as an error again.
func (f Fault) err() *arm.Error {
	e := &arm.Error{Code: arm.Code(f.Code), Message: f.Message, Target: f.Target}
	for _, d := range f.Details {
		e.Details = append(e.Details, d.err())
	}
	return e
}

// mayRead lets those see an operation who began it or may read its resource.
func (o *operations) mayRead(ctx context.Context, r *Request, op Operation) error {
	if strings.EqualFold(op.Caller, r.Caller.ObjectID) {
		return nil
	}
	id, err := arm.ParseID(op.Resource)
	if err != nil {
		return err
	}
	action := id.Type + "/read"
	if id.IsType(TypeGroup) {
		action = "Microsoft.Resources/subscriptions/resourceGroups/read"
	}
	ok, err := r.Allowed(ctx, action, op.Resource)
	if err != nil || ok {
		return err
	}
	return arm.Errorf(arm.CodeNotFound, "the operation '%s' was not found", op.ID)
}
