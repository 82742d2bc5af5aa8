package rbac

import "goldsmith/internal/arm"

// Codes of denied requests.
const (
	CodeAuthorizationFailed arm.Code = "AuthorizationFailed"
	// CodeLinkedAuthorizationFailed is of a right that the caller lacks on
	// something that the request names, such as an identity to assign.
	CodeLinkedAuthorizationFailed arm.Code = "LinkedAuthorizationFailed"
)

// ErrDenied is the error of a denied request. client is how the principal is
// known to people: a name, or an application id.
func ErrDenied(client string, r Request) error {
	return arm.Errorf(CodeAuthorizationFailed,
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		client, r.Principal, r.Action, r.Scope).At(r.Scope)
}
