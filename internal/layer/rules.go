package layer

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// Check says why a record cannot be committed; nil when it can.
func Check(r Record) error {
	switch {
	case r.ID == "" || strings.ContainsAny(r.ID, "/\\\x00") || r.ID == "." || r.ID == "..":
		return arm.Errorf(arm.CodeInternal, "%q cannot name a layer", r.ID)
	case r.Kind != Disk && r.Kind != Memory:
		return arm.Errorf(arm.CodeInternal, "%q is no kind of layer", r.Kind).At(r.ID)
	case r.Bytes < 0:
		return arm.Errorf(arm.CodeInternal, "a layer cannot occupy %d bytes", r.Bytes).At(r.ID)
	case r.Manifest != nil && !json.Valid(r.Manifest):
		return arm.Errorf(arm.CodeInternal, "the manifest of a layer is not JSON").At(r.ID)
	}
	return nil
}

// ErrTaken is the error of committing under an ID that exists.
func ErrTaken(id string) error {
	return arm.Errorf(arm.CodeConflict, "a layer with this id exists already").At(id)
}

// ErrInUse is the error of deleting a layer that others need: layers above it,
// or runs that pin it.
func ErrInUse(id string, above, pinnedBy []string) error {
	var holders []string
	for _, a := range above {
		holders = append(holders, "layer "+a+" stands on it")
	}
	for _, p := range pinnedBy {
		holders = append(holders, "run "+p+" uses it")
	}
	return arm.Errorf(arm.CodeConflict, "the layer is in use: %s", strings.Join(holders, ", ")).At(id)
}
