package armapi

import (
	"errors"
	"net/http"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/arm"
)

// Codes that only the front door answers with.
const (
	codeMissingVersion    arm.Code = "MissingApiVersionParameter"
	codeInvalidToken      arm.Code = "InvalidAuthenticationToken"
	codeForbidden         arm.Code = "AuthorizationFailed"
	codeLinkedForbidden   arm.Code = "LinkedAuthorizationFailed"
	codeNoSubscription    arm.Code = "SubscriptionNotFound"
	codeInvalidNamespace  arm.Code = "InvalidResourceNamespace"
	codeInvalidType       arm.Code = "InvalidResourceType"
	codeInvalidName       arm.Code = "InvalidResourceName"
	codeInvalidURI        arm.Code = "InvalidRequestUri"
	codeURITooLong        arm.Code = "RequestUriTooLong"
	codeMethodNotAllowed  arm.Code = "MethodNotAllowed"
	codeBodyTooLarge      arm.Code = "RequestContentTooLarge"
	codeBodyIncomplete    arm.Code = "RequestBodyIncomplete"
	codeNotRegistered     arm.Code = "MissingSubscriptionRegistration"
	codeParentNotFound    arm.Code = "ParentResourceNotFound"
	codeGroupBeingDeleted arm.Code = "ResourceGroupBeingDeleted"
	codeDeletionBlocked   arm.Code = "ResourceGroupDeletionBlocked"
	codeUnavailable       arm.Code = "ServerShuttingDown"
	codeLocationRequired  arm.Code = "LocationRequired"
	codeLocationFixed     arm.Code = "InvalidResourceLocation"
	codeNested            arm.Code = "CannotDeleteResource"
	codeBadTag            arm.Code = "InvalidTag"
)

// statuses are the HTTP status of each code; any other is 400, so that a new
// code is never taken for a fault of the server, which clients retry.
var statuses = map[arm.Code]int{
	codeInvalidToken:      http.StatusUnauthorized,
	codeForbidden:         http.StatusForbidden,
	codeLinkedForbidden:   http.StatusForbidden,
	arm.CodeUnauthorized:  http.StatusForbidden,
	codeNoSubscription:    http.StatusNotFound,
	codeInvalidNamespace:  http.StatusNotFound,
	codeInvalidType:       http.StatusNotFound,
	codeParentNotFound:    http.StatusNotFound,
	arm.CodeNotFound:      http.StatusNotFound,
	arm.CodeGroupNotFound: http.StatusNotFound,
	codeMethodNotAllowed:  http.StatusMethodNotAllowed,
	codeURITooLong:        http.StatusRequestURITooLong,
	codeBodyTooLarge:      http.StatusRequestEntityTooLarge,
	codeBodyIncomplete:    http.StatusRequestTimeout,
	codeNotRegistered:     http.StatusConflict,
	codeGroupBeingDeleted: http.StatusConflict,
	codeDeletionBlocked:   http.StatusConflict,
	codeLocationFixed:     http.StatusConflict,
	codeNested:            http.StatusConflict,
	arm.CodeConflict:      http.StatusConflict,
	arm.CodeNotAllowed:    http.StatusMethodNotAllowed,

	arm.CodePreconditionFailed: http.StatusPreconditionFailed,
	arm.CodeInternal:           http.StatusInternalServerError,
	arm.CodeCorrupt:            http.StatusInternalServerError,
	arm.CodeNoSpace:            http.StatusInsufficientStorage,
	codeUnavailable:            http.StatusServiceUnavailable,
}

// ofGateway reports whether errors of a code come from the door itself, which has
// them in an envelope whatever the provider does with its own.
func ofGateway(code arm.Code) bool {
	switch code {
	case codeMissingVersion, codeInvalidToken, codeForbidden, codeLinkedForbidden, codeNoSubscription, codeInvalidNamespace,
		codeInvalidType, codeInvalidName, codeInvalidURI, codeURITooLong, codeMethodNotAllowed, codeBodyTooLarge, codeBodyIncomplete,
		arm.CodeInvalidAPIVersion, arm.CodeNotFound, arm.CodeGroupNotFound:
		return true
	}
	return false
}

// Status is err with the HTTP status of its answer, where that does not follow
// from its code.
func Status(status int, err error) error { return &statusError{status, err} }

type statusError struct {
	status int
	err    error
}

// Error implements error.
func (e *statusError) Error() string { return e.err.Error() }

// Unwrap implements error.
func (e *statusError) Unwrap() error { return e.err }

// statusOf is the HTTP status for err.
func statusOf(err error) int {
	var s *statusError
	if errors.As(err, &s) {
		return s.status
	}
	if status, ok := statuses[arm.CodeOf(err)]; ok {
		return status
	}
	return http.StatusBadRequest
}

// Fault is an error as it is on the wire (ErrorResponse of the common types).
type Fault struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Target  string  `json:"target,omitempty"`
	Details []Fault `json:"details,omitempty"`
}

// FaultOf is err for the wire. A cause that is no arm.Error is not shown.
func FaultOf(err error) Fault {
	var e *arm.Error
	if !errors.As(err, &e) {
		return Fault{Code: string(arm.CodeInternal), Message: "An internal error occurred; the service's log has it under the request id."}
	}
	message := e.Message
	var s *statusError
	if errors.As(err, &s) {
		err = s.err
	}
	if _, plain := err.(*arm.Error); !plain {
		message = err.Error() // with what was said around it on the way
	}
	f := Fault{Code: string(e.Code), Message: sentence(message), Target: e.Target}
	for _, d := range e.Details {
		f.Details = append(f.Details, FaultOf(d))
	}
	return f
}

// sentence begins with a capital letter: messages here are lower case, and those
// of Azure are not.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// envelope is the body that carries f.
func (f Fault) envelope(bare bool) any {
	if bare {
		return f
	}
	return map[string]Fault{"error": f}
}

// ErrResourceNotFound is the 404 of a resource in a group, in the words of Azure.
// Its target is empty.
func ErrResourceNotFound(typ, name, group string) error {
	return arm.Errorf(arm.CodeNotFound, "the Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", typ, name, group)
}

// ErrGroupNotFound is the 404 of a resource group, in the words of Azure.
func ErrGroupNotFound(name string) error {
	return arm.Errorf(arm.CodeGroupNotFound, "resource group '%s' could not be found.", name)
}

// ErrGroupBeingDeleted is the 409 of a write in a group that is being deleted.
func ErrGroupBeingDeleted(name string) error {
	return arm.Errorf(codeGroupBeingDeleted, "the resource group '%s' is in deprovisioning state and cannot perform this operation.", name)
}

// ErrGroupInUse is the 409 that a deletion of the group at id ends with when
// something in it cannot go. why is its cause and its only detail.
func ErrGroupInUse(id string, why error) error {
	e := arm.Errorf(codeDeletionBlocked, "the resource group stays as it is, because something in it cannot be deleted now: %w", why).At(id)
	var detail *arm.Error
	if errors.As(why, &detail) {
		e.Details = []*arm.Error{detail}
	}
	return e
}

// ErrForbidden is the 403 of a caller who may not do action at scope.
func ErrForbidden(r *Request, action, scope string) error {
	return arm.Errorf(codeForbidden, "the client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		r.Caller.Name, r.Caller.ObjectID, action, scope)
}
