package residue

import (
	"io/fs"
	"path"
	"strings"
)

// Patterns are the paths that must not exist in a finished image, as io/fs.Glob
// patterns below its root: everything Clean removes, and whatever lies in a
// directory that it empties.
func Patterns(user string) []string {
	var all []string
	add := func(r rule) {
		switch r.action {
		case remove:
			all = append(all, r.pattern)
		case contents:
			all = append(all, path.Join(r.pattern, "*"), path.Join(r.pattern, ".*"))
		}
	}
	for _, r := range rules {
		add(r)
	}
	for _, r := range userRules {
		add(r.of(user))
	}
	return append(all, RecordDir)
}

// match is fs.Glob, which passes over a link that leads nowhere when a pattern
// names it in full.
func match(root fs.FS, pattern string) ([]string, error) {
	if strings.ContainsAny(pattern, `*?[\`) {
		return fs.Glob(root, pattern)
	}
	if _, err := fs.Lstat(root, pattern); err != nil {
		return nil, nil // as fs.Glob: what cannot be seen does not match
	}
	return []string{pattern}, nil
}

// EmptyFiles are the files that may exist in a finished image, but with nothing
// in them.
func EmptyFiles() []string {
	var all []string
	for _, r := range rules {
		if r.action == empty {
			all = append(all, r.pattern)
		}
	}
	return all
}

// Find lists what a build left in a finished root file system: paths that should
// not be there, files that should be empty, and account files that name user.
func Find(root fs.FS, user string) ([]string, error) {
	var found []string
	for _, pattern := range Patterns(user) {
		names, err := match(root, pattern)
		if err != nil {
			return nil, err
		}
		found = append(found, names...)
	}
	for _, pattern := range EmptyFiles() {
		names, err := match(root, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if info, err := fs.Lstat(root, name); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				found = append(found, name)
			}
		}
	}
	for _, name := range accountFiles {
		text, err := fs.ReadFile(root, name)
		if err == nil && withoutUser(string(text), user, ofGroups(name)) != string(text) {
			found = append(found, name)
		}
	}
	return found, nil
}
