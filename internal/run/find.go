package run

import (
	"strings"

	"goldsmith/internal/arm"
)

// MaxMatches is how many runs the error of an ambiguous prefix lists.
const MaxMatches = 10

// PrefixRange is the range of ids, from inclusive and to exclusive, that start
// with a prefix in any case. The error is CodeUsage for an empty prefix and
// CodeNotFound for one that no id can have.
func PrefixRange(prefix string) (from, to string, err error) {
	if prefix == "" {
		return "", "", arm.Errorf(arm.CodeUsage, "give a run's id or its first characters")
	}
	from = strings.ToLower(prefix)
	if strings.Trim(from, "0123456789abcdef-") != "" || len(from) > 36 {
		return "", "", ErrNotFound(prefix)
	}
	last := len(from) - 1
	return from, from[:last] + string(from[last]+1), nil
}

// OneOf resolves the runs in the range of prefix, ordered by id, to one: a full
// match, or the only match.
func OneOf(prefix string, matches []Record) (Record, error) {
	switch {
	case len(matches) == 0:
		return Record{}, ErrNotFound(prefix)
	case len(matches) == 1:
		return matches[0], nil
	}
	var ids []string
	for _, r := range matches[:min(len(matches), MaxMatches)] {
		ids = append(ids, r.ID)
	}
	if len(matches) > MaxMatches {
		ids = append(ids, "and more")
	}
	return Record{}, arm.Errorf(arm.CodeUsage, "%q is the start of several runs, give more of it: %s", prefix, strings.Join(ids, ", "))
}

// ErrNotFound is the error for a run that does not exist.
func ErrNotFound(id string) error {
	return arm.Errorf(arm.CodeNotFound, "the run does not exist; `goldsmith runs list` shows those that do").At(id)
}

// ErrEnded is the error for what an ended run cannot do any more.
func ErrEnded(r Record) error {
	return arm.Errorf(arm.CodeNotAllowed, "the run has ended already: it is %s", r.State).At(r.ID)
}

// ErrFenced is the error of a write under an epoch that has passed.
func ErrFenced(r Record, epoch int64) error {
	return arm.Errorf(arm.CodePreconditionFailed, "the run is at epoch %d, not %d: its lease was lost or given back", r.Epoch, epoch).At(r.ID)
}
