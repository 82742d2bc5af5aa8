package arm

import (
	"strings"

	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
)

// ID is a parsed resource id. Ids compare case-insensitively (use Key), and
// keep the casing they came with.
type ID struct {
	Subscription string // subscription GUID, "" for tenant-level ids
	Group        string // resource group name, "" above group level
	Type         string // e.g. "Microsoft.Compute/galleries/images"; groups are "Microsoft.Resources/resourceGroups"
	Name         string // last name segment
	parsed       *azarm.ResourceID
}

// ParseID parses a full resource id ("/subscriptions/..."). A missing leading
// slash is accepted, as the real service does for stagingResourceGroup.
// The error is CodeInvalidResourceID.
func ParseID(s string) (ID, error) {
	raw := s
	if s != "" && s[0] != '/' {
		s = "/" + s
	}
	if strings.ContainsAny(s, "\x00%?#\\") || strings.Contains(s, "//") || strings.Contains(s, "/../") {
		return ID{}, Errorf(CodeInvalidResourceID, "%q is not a resource id: it holds an empty or encoded segment", raw)
	}
	p, err := azarm.ParseResourceID(s)
	if err != nil {
		return ID{}, Errorf(CodeInvalidResourceID, "%q is not a resource id: %w", raw, err)
	}
	return ID{
		Subscription: p.SubscriptionID,
		Group:        p.ResourceGroupName,
		Type:         p.ResourceType.String(),
		Name:         p.Name,
		parsed:       p,
	}, nil
}

// String is the id as it was given, with its leading slash.
func (id ID) String() string {
	if id.parsed == nil {
		return ""
	}
	return id.parsed.String()
}

// Key is the id in lower case: equal ids have equal keys.
func (id ID) Key() string { return strings.ToLower(id.String()) }

// IsType reports whether the id is of resource type t, in any case.
func (id ID) IsType(t string) bool { return strings.EqualFold(id.Type, t) }

// Parent is the enclosing id; ok is false at tenant level.
func (id ID) Parent() (parent ID, ok bool) {
	if id.parsed == nil || id.parsed.Parent == nil || id.parsed.Parent.String() == "" || id.parsed.Parent.String() == "/" {
		return ID{}, false
	}
	p := id.parsed.Parent
	return ID{Subscription: p.SubscriptionID, Group: p.ResourceGroupName, Type: p.ResourceType.String(), Name: p.Name, parsed: p}, true
}

// GroupID is the id of the resource group that holds id.
func (id ID) GroupID() string { return GroupID(id.Subscription, id.Group) }

// GroupID is the id of resource group name in a subscription.
func GroupID(subscription, name string) string {
	return "/subscriptions/" + subscription + "/resourceGroups/" + name
}

// ResourceID is the id of a resource: typ is "Namespace/type[/child]" and names
// has one name per type segment.
func ResourceID(subscription, group, typ string, names ...string) string {
	var b strings.Builder
	b.WriteString(GroupID(subscription, group))
	b.WriteString("/providers/")
	parts := strings.Split(typ, "/")
	b.WriteString(parts[0])
	for i, t := range parts[1:] {
		b.WriteString("/" + t)
		if i < len(names) {
			b.WriteString("/" + names[i])
		}
	}
	return b.String()
}
