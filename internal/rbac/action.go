package rbac

import (
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/suggest"
)

// Codes of role definitions and assignments that are refused.
const (
	CodeBadAction        arm.Code = "InvalidActionOrNotAction"
	CodeBadScope         arm.Code = "InvalidAssignableScope"
	CodeRoleName         arm.Code = "InvalidRoleDefinitionName"
	CodeRoleNameTaken    arm.Code = "RoleDefinitionWithSameNameExists"
	CodeRoleMissing      arm.Code = "RoleDefinitionDoesNotExist"
	CodeRoleInUse        arm.Code = "RoleDefinitionHasAssignments"
	CodeRoleReadOnly     arm.Code = "RoleDefinitionUpdateNotAllowed"
	CodeAssignmentExists arm.Code = "RoleAssignmentExists"
	CodePrincipalMissing arm.Code = "PrincipalNotFound"
	CodeNotAssignable    arm.Code = "RoleDefinitionNotAssignableAtScope"
)

// verbs end every action.
var verbs = []string{"read", "write", "delete", "action"}

// topTypes are the resource types right below a namespace. A namespace that is
// not here may have any.
var topTypes = map[string][]string{
	"microsoft.compute": {
		"availabilitySets", "capacityReservationGroups", "cloudServices", "diskAccesses", "diskEncryptionSets", "disks",
		"galleries", "hostGroups", "images", "locations", "operations", "proximityPlacementGroups", "register",
		"restorePointCollections", "sharedVMExtensions", "sharedVMImages", "skus", "snapshots", "sshPublicKeys",
		"unregister", "virtualMachineScaleSets", "virtualMachines",
	},
	"microsoft.managedidentity": {"identities", "operations", "register", "unregister", "userAssignedIdentities"},
	"microsoft.storage": {
		"checkNameAvailability", "deletedAccounts", "locations", "operations", "register", "skus", "storageAccounts",
		"storageTasks", "unregister", "usages",
	},
	"microsoft.virtualmachineimages": {"imageTemplates", "locations", "operations", "register", "unregister"},
}

// operations are all that can be done with the resource types that a template
// touches, so that a slip in a role for the builder is found.
var operations = map[string][]string{
	"microsoft.compute/images":                                 {"read", "write", "delete"},
	"microsoft.compute/galleries":                              {"read", "write", "delete", "share/action"},
	"microsoft.compute/galleries/images":                       {"read", "write", "delete"},
	"microsoft.compute/galleries/images/versions":              {"read", "write", "delete"},
	"microsoft.virtualmachineimages/imagetemplates":            {"read", "write", "delete", "run/action", "cancel/action"},
	"microsoft.virtualmachineimages/imagetemplates/runoutputs": {"read"},
	"microsoft.virtualmachineimages/imagetemplates/triggers":   {"read", "write", "delete"},
	"microsoft.managedidentity/userassignedidentities":         {"read", "write", "delete", "assign/action", "revokeTokens/action"},
}

// dataTypes are the only types, of the namespaces in noData, that have data
// actions.
var dataTypes = []string{
	"microsoft.storage/storageaccounts/blobservices/containers/blobs/",
	"microsoft.storage/storageaccounts/fileservices/",
	"microsoft.storage/storageaccounts/queueservices/queues/messages/",
	"microsoft.storage/storageaccounts/tableservices/tables/entities/",
	"microsoft.compute/virtualmachines/login",
	"microsoft.compute/virtualmachines/wacloginasadmin",
	"microsoft.compute/disks/",
	"microsoft.compute/snapshots/",
}

// noData are the namespaces of which dataTypes has every data action.
var noData = []string{
	"microsoft.authorization/", "microsoft.compute/", "microsoft.managedidentity/", "microsoft.network/",
	"microsoft.resources/", "microsoft.storage/", "microsoft.virtualmachineimages/",
}

// CheckAction says why an action of a role's Actions or NotActions, or with data
// of its DataActions or NotDataActions, is refused; nil when it is not. The code
// is CodeBadAction.
func CheckAction(action string, data bool) *arm.Error {
	bad := func(format string, args ...any) *arm.Error {
		e := arm.Errorf(CodeBadAction, format, args...)
		e.Message = "'" + action + "' does not match any of the actions supported by the providers. " + e.Message
		return e
	}
	if action == "*" {
		return nil
	}
	if action == "" || strings.ContainsFunc(action, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'<>\`, r) }) {
		return bad("an action is written without spaces and quotes, such as Microsoft.Compute/images/read")
	}
	parts := strings.Split(action, "/")
	for _, p := range parts {
		if p == "" {
			return bad("it has an empty part")
		}
		if strings.Contains(p, "*") && p != "*" {
			return bad("a wildcard stands for whole parts between slashes, such as Microsoft.Compute/images/*, and '%s' is more than that", p)
		}
	}
	if parts[0] != "*" {
		if e := checkNamespace(parts, bad); e != nil {
			return e
		}
	} else if len(parts) == 1 {
		return nil
	}
	if last := parts[len(parts)-1]; last != "*" && !slices.ContainsFunc(verbs, func(v string) bool { return strings.EqualFold(v, last) }) {
		return bad("it must end with read, write, delete, action or *, and ends with '%s'", last)
	}
	if e := checkOperation(parts, bad); e != nil {
		return e
	}
	return checkPlane(action, data, bad)
}

type refusal func(format string, args ...any) *arm.Error

// checkNamespace judges the namespace and the type right below it.
func checkNamespace(parts []string, bad refusal) *arm.Error {
	if len(parts) == 1 {
		return bad("it has no resource type and no verb: write %s/* for everything in the namespace", parts[0])
	}
	before, after, ok := strings.Cut(parts[0], ".")
	if !ok || before == "" || after == "" {
		return bad("it must begin with a resource provider's namespace such as Microsoft.Compute, and begins with '%s'", parts[0])
	}
	known := topTypes[strings.ToLower(parts[0])]
	if known == nil || parts[1] == "*" || len(parts) == 2 && slices.Contains(verbs, strings.ToLower(parts[1])) {
		return nil
	}
	if slices.ContainsFunc(known, func(t string) bool { return strings.EqualFold(t, parts[1]) }) {
		return nil
	}
	return bad("%s has no resource type '%s'%s", parts[0], parts[1], meant(parts[1], known))
}

// checkOperation judges the verb of a resource type whose operations are all
// known.
func checkOperation(parts []string, bad refusal) *arm.Error {
	lowered := make([]string, len(parts))
	for i, p := range parts {
		lowered[i] = strings.ToLower(p)
	}
	for n := len(parts) - 1; n >= 2; n-- {
		known, ok := operations[strings.Join(lowered[:n], "/")]
		if !ok {
			continue
		}
		op := strings.Join(lowered[n:], "/")
		if strings.Contains(op, "*") || slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, op) }) {
			return nil
		}
		return bad("%s knows %s, and not '%s'", strings.Join(parts[:n], "/"), strings.Join(known, ", "), strings.Join(parts[n:], "/"))
	}
	return nil
}

// checkPlane refuses a control action among data actions and the other way.
func checkPlane(action string, data bool, bad refusal) *arm.Error {
	low := strings.ToLower(action)
	if strings.Contains(low, "*") {
		return nil
	}
	isData := slices.ContainsFunc(dataTypes, func(t string) bool { return strings.HasPrefix(low, t) })
	if data && !isData && slices.ContainsFunc(noData, func(n string) bool { return strings.HasPrefix(low, n) }) {
		return bad("it is not a data action: write it in Actions")
	}
	if !data && strings.HasPrefix(low, dataTypes[0]) {
		return bad("it is a data action: write it in DataActions")
	}
	return nil
}

// meant is the end of a message about an unknown name.
func meant(name string, known []string) string {
	if near := suggest.Nearest(name, known, 1); len(near) > 0 {
		return ": did you mean '" + near[0] + "'?"
	}
	return ""
}
