package residue

import (
	"os"
	"path"
	"strings"
)

// plainName reports whether s can be a build user's name: nothing that a path or
// an account file would read otherwise.
func plainName(s string) bool {
	if s == "" || s == "root" || len(s) > 32 {
		return false
	}
	for i, r := range s {
		lower := r >= 'a' && r <= 'z' || r == '_'
		if !lower && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}
	return true
}

// removeUser removes the account, its home and what else carries its name.
func (r *Report) removeUser(root *os.Root, user string) {
	if home := homeOf(root, user); home != "" {
		r.remove(root, home)
	}
	for _, rule := range userRules {
		r.apply(root, rule.of(user))
	}
	for _, name := range accountFiles {
		text, err := readBounded(root, name)
		if err != nil {
			r.warn(name, err)
			continue
		}
		if without := withoutUser(text, user, ofGroups(name)); without != text {
			r.warn(name, rewrite(root, name, without))
			r.Removed++
		}
	}
}

// of is the rule for one user.
func (r rule) of(user string) rule {
	return rule{strings.ReplaceAll(r.pattern, "%s", user), r.action}
}

// ofGroups reports whether an account file lists members.
func ofGroups(name string) bool {
	return strings.HasPrefix(name, "etc/group") || strings.HasPrefix(name, "etc/gshadow")
}

// homeOf is the user's home directory below the root, "" when the account file
// names none or one that is not the user's alone.
func homeOf(root *os.Root, user string) string {
	text, err := readBounded(root, "etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(fields) != 7 || fields[0] != user {
			continue
		}
		home := strings.TrimPrefix(path.Clean("/"+fields[5]), "/")
		if path.Base(home) == user && strings.Contains(home, "/") {
			return home
		}
	}
	return ""
}

// withoutUser is an account file without the user's line and, in a file of
// groups, without the user among the members.
func withoutUser(text, user string, groups bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, user+":") {
			continue
		}
		if i := strings.LastIndexByte(line, ':'); groups && i >= 0 {
			line = line[:i+1] + withoutMember(line[i+1:], user)
		}
		b.WriteString(line)
	}
	return b.String()
}

// withoutMember takes a name out of a list with commas, and leaves every other
// byte as it is.
func withoutMember(list, user string) string {
	members := strings.TrimSuffix(list, "\n")
	end := list[len(members):]
	var keep []string
	found := false
	for member := range strings.SplitSeq(members, ",") {
		if strings.TrimSpace(member) == user {
			found = true
			continue
		}
		keep = append(keep, member)
	}
	if !found {
		return list
	}
	return strings.Join(keep, ",") + end
}
