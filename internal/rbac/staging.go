package rbac

import "bytes"

// The staging right, which registering the service grants, as a Decision names
// it: there is no assignment record behind it.
const (
	StagingAssignment = "registration of Microsoft.VirtualMachineImages"
	StagingRole       = "Image Builder Staging"
)

var (
	subscriptionsPart = []byte("/subscriptions/")
	groupsPart        = []byte("/resourcegroups/")
	stagingPart       = []byte("it_")
)

// guidLen is the length of a GUID in text.
const guidLen = 36

// stages reports whether the staging right of the builder's service principal
// covers a scope: a staging group of a registered subscription, or something in
// it. The name of a staging group is "IT_", text, "_" and a GUID, so that a
// group that merely begins with IT_ is not one.
func (p *Policy) stages(principal string, scope []byte) bool {
	if len(p.registered) == 0 || !equalFoldASCII(principal, BuilderObject) {
		return false
	}
	rest, ok := bytes.CutPrefix(scope, subscriptionsPart)
	if !ok {
		return false
	}
	i := bytes.IndexByte(rest, '/')
	if i < 0 || !p.registered[string(rest[:i])] {
		return false
	}
	group, ok := bytes.CutPrefix(rest[i:], groupsPart)
	if !ok {
		return false
	}
	if end := bytes.IndexByte(group, '/'); end >= 0 {
		group = group[:end]
	}
	middle := len(group) - guidLen - 1
	return middle > len(stagingPart) && bytes.HasPrefix(group, stagingPart) && group[middle] == '_' && isGUID(group[middle+1:])
}

// isGUID reports whether b is a GUID in lower case.
func isGUID(b []byte) bool {
	if len(b) != guidLen {
		return false
	}
	for i, c := range b {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i]|0x20 != b[i]|0x20 {
			return false
		}
	}
	return true
}
