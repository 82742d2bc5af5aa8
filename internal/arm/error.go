// Package arm is the wire vocabulary of Azure Resource Manager: coded errors,
// resource ids and operation status. It performs no I/O.
package arm

import (
	"errors"
	"fmt"
)

// Code names the class of an Error. The values are those that Azure Resource
// Manager and the Image Builder service put on the wire wherever they have one.
type Code string

// Codes used across the program.
const (
	CodeValidationFailed   Code = "ValidationFailed"           // the template or request body breaks a rule
	CodeInvalidJSON        Code = "InvalidRequestContent"      // the body is not JSON, or not an object
	CodeInvalidAPIVersion  Code = "InvalidApiVersionParameter" // missing or unknown api-version
	CodeInvalidResourceID  Code = "LinkedInvalidPropertyId"    // a resource id that does not parse
	CodeNotFound           Code = "ResourceNotFound"           // a named thing does not exist
	CodeGroupNotFound      Code = "ResourceGroupNotFound"      // a resource group does not exist
	CodeConflict           Code = "Conflict"                   // exists already, changed meanwhile, or in use
	CodePreconditionFailed Code = "PreconditionFailed"         // If-Match did not hold
	CodeNotAllowed         Code = "OperationNotAllowed"        // not in this state
	CodeUnauthorized       Code = "Unauthorized"               // the builder lacks a right
	CodeNotSupported       Code = "NotSupported"               // valid, but this engine cannot do it yet
	CodeUsage              Code = "InvalidUsage"               // the command line is wrong
	CodePlaceholder        Code = "UnfilledPlaceholder"        // a <name> in the template has no --set
	CodeFetchFailed        Code = "FetchFailed"                // a download did not succeed
	CodeFetchRefused       Code = "FetchRefused"               // the fetch policy forbids the address
	CodeDigestMismatch     Code = "DigestMismatch"             // content is not what its digest says
	CodeTooLarge           Code = "ContentTooLarge"            // content is above its cap
	CodeMalformedImage     Code = "MalformedDiskImage"         // a disk image that must not be opened
	CodeCorrupt            Code = "CorruptContent"             // stored content fails verification
	CodeNoSpace            Code = "NoSpaceLeft"                // the host's disk is full
	CodeMachine            Code = "MachineFailed"              // the virtual machine did not start, or died
	CodeGuestNotReady      Code = "GuestNotReady"              // the guest never became reachable
	CodeGuestLost          Code = "GuestConnectionLost"        // the channel to the guest broke
	CodeStepFailed         Code = "CustomizerFailed"           // a customizer step ended with an error
	CodeTimeout            Code = "BuildTimeout"               // buildTimeoutInMinutes is used up
	CodeCanceled           Code = "Canceled"                   // cancelled by a person or a client
	CodeDistributeFailed   Code = "DistributeFailed"           // an output could not be published
	CodeMissingTool        Code = "MissingTool"                // a program the host must have is not there
	CodeInternal           Code = "InternalOperationError"     // a fault of this program
)

// Error is the one coded error of the program: what went wrong (Code, Message),
// where (Target: a JSON pointer, resource id, path or step name) and why (Err).
// Message is lower case and says what to do about it.
type Error struct {
	Code    Code
	Message string
	Target  string
	Details []*Error
	Err     error
}

// Errorf makes an Error of code with a formatted message. A %w operand becomes
// its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// At returns a copy of e whose target is target.
func (e *Error) At(target string) *Error {
	c := *e
	c.Target = target
	return &c
}

// Error is the message, with its target in front where there is one.
func (e *Error) Error() string {
	if e.Target != "" {
		return e.Target + ": " + e.Message
	}
	return e.Message
}

// Unwrap is the cause, which is already part of the message.
func (e *Error) Unwrap() error { return e.Err }

// Is reports a match by code, so that errors.Is(err, &Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == "" && t.Target == ""
}

// CodeOf is the code of the first Error in err's chain; CodeInternal for any
// other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// IsCode reports whether any Error in err's chain has code.
func IsCode(err error, code Code) bool { return errors.Is(err, &Error{Code: code}) }
