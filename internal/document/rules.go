package document

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// Check says why a document cannot be stored; nil when it can.
func Check(key string, body json.RawMessage) error {
	if key == "" || strings.ContainsRune(key, 0) {
		return arm.Errorf(arm.CodeInternal, "%q cannot be the key of a document", key)
	}
	if !json.Valid(body) {
		return arm.Errorf(arm.CodeInternal, "the document is not JSON").At(key)
	}
	return nil
}

// Allow decides a write under cond from the outcome of reading what is stored:
// nil, CodePreconditionFailed, or the reason why the read failed.
func Allow(cond Condition, stored Record, readErr error) error {
	absent := arm.IsCode(readErr, arm.CodeNotFound)
	switch {
	case readErr != nil && !absent:
		return readErr
	case cond.IfNoneMatch && !absent:
		return arm.Errorf(arm.CodePreconditionFailed, "it exists already").At(stored.Key)
	case cond.IfMatch != "" && (absent || cond.IfMatch != stored.ETag):
		return arm.Errorf(arm.CodePreconditionFailed, "it was changed or deleted meanwhile; read it again and repeat").At(stored.Key)
	}
	return nil
}
