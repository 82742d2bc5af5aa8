package resource

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// Key is the lower-case form of an id, without a trailing slash: ids are equal
// when their keys are.
func Key(id string) string { return strings.TrimRight(strings.ToLower(id), "/") }

// Below is the range of keys that lie under scope: from is the first possible
// one, to is behind the last. The empty scope holds every key.
func Below(scope string) (from, to string) {
	key := Key(scope)
	return key + "/", key + "0" // "0" follows "/" in ASCII
}

// Check says why a record cannot be stored; nil when it can.
func Check(r Record) error {
	if len(Key(r.ID)) < 2 || r.ID[0] != '/' || strings.ContainsRune(r.ID, 0) {
		return arm.Errorf(arm.CodeInvalidResourceID, "%q is not a resource id: it must start with a slash", r.ID)
	}
	seen := make(map[string]bool, len(r.Tags))
	for name := range r.Tags {
		key := strings.ToLower(name)
		if seen[key] {
			return arm.Errorf(arm.CodeValidationFailed, "the tag %q is there twice: tag names differ by more than case", name).At(r.ID)
		}
		seen[key] = true
	}
	for what, raw := range map[string]json.RawMessage{"identity": r.Identity, "properties": r.Properties, "other": r.Other, "internal": r.Internal} {
		if raw != nil && !json.Valid(raw) {
			return arm.Errorf(arm.CodeInvalidJSON, "%s is not JSON", what).At(r.ID)
		}
	}
	return nil
}

// ErrPrecondition is the error of a write whose Condition did not hold.
func ErrPrecondition(id string) error {
	return arm.Errorf(arm.CodePreconditionFailed, "the resource was changed or exists already; read it again and repeat").At(id)
}

// ErrAbsent is the error of a look-up that found nothing.
func ErrAbsent(id string) error {
	return arm.Errorf(arm.CodeNotFound, "the resource does not exist").At(id)
}

// Page cuts records, of which there may be one more than size, to a page and
// makes the next page's token. Size 0 is one page of everything.
func Page(records []Record, size int) (page []Record, next string) {
	if size <= 0 || len(records) <= size {
		return records, ""
	}
	page = records[:size]
	return page, TokenAfter(page[size-1].ID)
}

// TokenAfter is the token of the page that begins behind the record with id.
func TokenAfter(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(Key(id))) }

// ParsePageToken returns the key after which a page starts, "" for the first.
// Tokens come from clients: the error is CodeValidationFailed.
func ParsePageToken(token string) (after string, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || (len(raw) > 0 && raw[0] != '/') {
		return "", arm.Errorf(arm.CodeValidationFailed, "the page token %.40q was not made by this service; start the list anew", token)
	}
	return string(raw), nil
}
