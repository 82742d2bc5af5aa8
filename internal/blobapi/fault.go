package blobapi

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/signature"
)

// Codes of the Blob service ("Blob service error codes", "Common REST API error
// codes").
const (
	codeInvalidURI          arm.Code = "InvalidUri"
	codeInvalidName         arm.Code = "InvalidResourceName"
	codeInvalidHeader       arm.Code = "InvalidHeaderValue"
	codeInvalidQuery        arm.Code = "InvalidQueryParameterValue"
	codeInvalidXML          arm.Code = "InvalidXmlDocument"
	codeInvalidMetadata     arm.Code = "InvalidMetadata"
	codeMetadataTooLarge    arm.Code = "MetadataTooLarge"
	codeMissingHeader       arm.Code = "MissingRequiredHeader"
	codeMissingLength       arm.Code = "MissingContentLengthHeader"
	codeUnsupportedHeader   arm.Code = "UnsupportedHeader"
	codeUnsupportedVerb     arm.Code = "UnsupportedHttpVerb"
	codeTooLarge            arm.Code = "RequestBodyTooLarge"
	codeMD5Mismatch         arm.Code = "Md5Mismatch"
	codeCRC64Mismatch       arm.Code = "Crc64Mismatch"
	codeInvalidRange        arm.Code = "InvalidRange"
	codeConditionNotMet     arm.Code = "ConditionNotMet"
	codeSourceCondition     arm.Code = "SourceConditionNotMet"
	codeNotModified         arm.Code = "NotModified"
	codeBlobExists          arm.Code = "BlobAlreadyExists"
	codeBlobNotFound        arm.Code = "BlobNotFound"
	codeContainerExists     arm.Code = "ContainerAlreadyExists"
	codeContainerNotFound   arm.Code = "ContainerNotFound"
	codeResourceNotFound    arm.Code = "ResourceNotFound"
	codePublicNotPermitted  arm.Code = "PublicAccessNotPermitted"
	codeNoAuthentication    arm.Code = "NoAuthenticationInformation"
	codeInvalidToken        arm.Code = "InvalidAuthenticationInfo"
	codeKeyNotPermitted     arm.Code = "KeyBasedAuthenticationNotPermitted"
	codeCannotVerifySource  arm.Code = "CannotVerifyCopySource"
	codeLeaseNotPresent     arm.Code = "LeaseNotPresentWithBlobOperation"
	codeNotImplemented      arm.Code = "NotImplemented"
	codeInternalServerError arm.Code = "InternalError"
)

// known is the status and the text that go with a code.
var known = map[arm.Code]struct {
	status int
	text   string
}{
	codeInvalidURI:          {400, "The requested URI does not represent any resource on the server."},
	codeInvalidName:         {400, "The specified resource name contains invalid characters."},
	codeInvalidHeader:       {400, "The value for one of the HTTP headers is not in the correct format."},
	codeInvalidQuery:        {400, "Value for one of the query parameters specified in the request URI is invalid."},
	codeInvalidXML:          {400, "XML specified is not syntactically valid."},
	codeInvalidMetadata:     {400, "The metadata specified is invalid. It has characters that are not permitted."},
	codeMetadataTooLarge:    {400, "The metadata specified exceeds the maximum permissible limit (8KB)."},
	codeMissingHeader:       {400, "An HTTP header that's mandatory for this request is not specified."},
	codeMissingLength:       {411, "Content-Length HTTP header was not specified."},
	codeUnsupportedHeader:   {400, "One of the HTTP headers specified in the request is not supported."},
	codeUnsupportedVerb:     {405, "The resource doesn't support specified Http Verb."},
	codeTooLarge:            {413, "The request body is too large and exceeds the maximum permissible limit."},
	codeMD5Mismatch:         {400, "The MD5 value specified in the request did not match with the MD5 value calculated by the server."},
	codeCRC64Mismatch:       {400, "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server."},
	codeInvalidRange:        {416, "The range specified is invalid for the current size of the resource."},
	codeConditionNotMet:     {412, "The condition specified using HTTP conditional header(s) is not met."},
	codeSourceCondition:     {412, "The source condition specified using HTTP conditional header(s) is not met."},
	codeNotModified:         {304, ""},
	codeBlobExists:          {409, "The specified blob already exists."},
	codeBlobNotFound:        {404, "The specified blob does not exist."},
	codeContainerExists:     {409, "The specified container already exists."},
	codeContainerNotFound:   {404, "The specified container does not exist."},
	codeResourceNotFound:    {404, "The specified resource does not exist."},
	codePublicNotPermitted:  {409, "Public access is not permitted on this storage account."},
	codeNoAuthentication:    {401, "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."},
	codeInvalidToken:        {401, "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."},
	codeKeyNotPermitted:     {403, "Key based authentication is not permitted on this storage account."},
	codeCannotVerifySource:  {403, "Could not verify the copy source within the specified time."},
	codeLeaseNotPresent:     {412, "There is currently no lease on the blob."},
	codeNotImplemented:      {501, "The requested operation is not implemented on the specified resource."},
	codeInternalServerError: {500, "Server encountered an internal error. Please try again after some time."},

	blob.CodeInvalidBlockList:          {400, "The specified block list is invalid."},
	signature.CodeAuthenticationFailed: {403, "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."},
	signature.CodePermissionMismatch:   {403, "This request is not authorized to perform this operation using this permission."},
	signature.CodeProtocolMismatch:     {403, "This request is not authorized to perform this operation using this protocol."},
	signature.CodeSourceIPMismatch:     {403, "This request is not authorized to perform this operation using this source IP."},
	signature.CodeServiceMismatch:      {403, "This request is not authorized to perform this operation using this service."},
	signature.CodeResourceTypeMismatch: {403, "This request is not authorized to perform this operation using this resource type."},
}

// fail is a refusal with a code of the service and its cause.
func fail(code arm.Code, format string, args ...any) error { return arm.Errorf(code, format, args...) }

// missing is a refusal because of something else than the target that is not
// there.
type missing string

// Error implements error.
func (m missing) Error() string { return string(m) }

// wireError is the body of a refusal.
type wireError struct {
	XMLName xml.Name `xml:"Error"`
	Code    arm.Code
	Message string
	Detail  string `xml:"AuthenticationErrorDetail,omitempty"`
}

// fail answers with err. After the first byte of a body nothing can be said but
// that it broke off.
func (c *call) fail(id string, err error) {
	if errors.Is(err, errBroken) {
		panic(http.ErrAbortHandler)
	}
	code, cause := arm.CodeOf(err), err.Error()
	if errors.As(err, new(missing)) {
		code = codeResourceNotFound
	} else if code == arm.CodeNotFound { // the store's, of the same name
		code = ""
	}
	k, ok := known[code]
	if !ok {
		code, k, cause = c.translate(err)
	}
	c.set("x-ms-error-code", string(code))
	if k.status == http.StatusNotModified {
		c.w.WriteHeader(k.status)
		return
	}
	if k.status == http.StatusUnauthorized {
		c.set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%s resource_id=%s", c.cfg.Login, Audience))
	}
	body := wireError{Code: code, Message: k.text}
	if code == signature.CodeAuthenticationFailed {
		body.Detail = cause
	} else if cause != "" {
		body.Message += " Cause: " + cause + "."
	}
	body.Message += fmt.Sprintf("\nRequestId:%s\nTime:%s", id, c.now().UTC().Format(time.RFC3339Nano))
	c.answer(k.status, body)
}

// translate gives an error of the store the service's code.
func (c *call) translate(err error) (arm.Code, struct {
	status int
	text   string
}, string) {
	code, cause := codeInternalServerError, ""
	switch {
	case arm.IsCode(err, arm.CodeNotFound) && c.target.blob != "":
		code = codeBlobNotFound
		if _, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, c.target.container); isNotFound(err) {
			code = codeContainerNotFound
		}
	case arm.IsCode(err, arm.CodeNotFound):
		code = codeContainerNotFound
	case arm.IsCode(err, arm.CodeConflict):
		code = codeContainerExists
	case arm.IsCode(err, arm.CodeValidationFailed):
		code, cause = codeInvalidHeader, err.Error()
	case c.ctx().Err() != nil, errors.Is(err, context.Canceled):
		// Nobody is left to read the answer.
	default:
		c.cfg.Log.ErrorContext(c.ctx(), "blob request failed", "method", c.r.Method, "account", c.target.account,
			"container", c.target.container, "blob", c.target.blob, "error", err)
	}
	return code, known[code], cause
}

// answer writes an XML body.
func (c *call) answer(status int, body any) {
	raw, err := xml.Marshal(body)
	if err != nil {
		c.cfg.Log.ErrorContext(c.ctx(), "encode an answer", "error", err)
		c.w.WriteHeader(http.StatusInternalServerError)
		return
	}
	raw = append([]byte("\ufeff"+`<?xml version="1.0" encoding="utf-8"?>`), raw...)
	c.set("Content-Type", "application/xml")
	c.set("Content-Length", strconv.Itoa(len(raw)))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(raw) // a client that is gone needs no answer
	}
}

// errBroken ends an answer whose body could not be finished.
var errBroken = errors.New("the answer broke off")
