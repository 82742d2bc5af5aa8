package armtemplate

import (
	"errors"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

func init() {
	register(map[string]function{
		"parameters":                {1, 1, (*arguments).parameter},
		"variables":                 {1, 1, (*arguments).variable},
		"copyIndex":                 {0, 2, (*arguments).copyIndex},
		"resourceGroup":             {0, 0, (*arguments).resourceGroup},
		"subscription":              {0, 0, (*arguments).subscription},
		"tenant":                    {0, 0, (*arguments).tenant},
		"deployment":                {0, 0, (*arguments).deployment},
		"environment":               {0, 0, (*arguments).environment},
		"resourceId":                {2, -1, (*arguments).resourceID},
		"subscriptionResourceId":    {2, -1, (*arguments).subscriptionResourceID},
		"tenantResourceId":          {2, -1, (*arguments).tenantResourceID},
		"extensionResourceId":       {3, -1, (*arguments).extensionResourceID},
		"managementGroup":           {0, 0, (*arguments).refused},
		"managementGroupResourceId": {2, -1, (*arguments).refused},
		"providers":                 {1, 2, (*arguments).refused},
		"pickZones":                 {3, 5, func(*arguments) (value, error) { return list(nil), nil }},
	})
}

func (a *arguments) refused() (value, error) {
	return nil, a.fail("it is not offered here: there are no management groups, zones or lists of providers")
}

func (a *arguments) parameter() (value, error) {
	name, err := a.text(0)
	if err != nil {
		return nil, err
	}
	values := a.e.d.values
	if a.f.functions {
		values = a.f.params
	}
	if v := values[strings.ToLower(name)]; v != nil {
		return v, nil
	}
	return nil, a.f.fail("the template parameter '%s' is not found. Please see https://aka.ms/arm-syntax-parameters for usage details.", clip(name))
}

func (a *arguments) variable() (value, error) {
	name, err := a.text(0)
	if err != nil {
		return nil, err
	}
	if a.f.functions || a.f.defaults {
		return nil, a.fail("variables are not there in functions and default values")
	}
	return a.e.variable(a.f, name)
}

// copyIndex is the turn of the innermost loop, or of a named one, plus an offset.
func (a *arguments) copyIndex() (value, error) {
	offset, name := int64(0), ""
	for i, v := range a.args {
		if v.Kind == jsontree.String && i == 0 {
			name = v.Text
			continue
		}
		var err error
		if offset, err = a.number(i); err != nil {
			return nil, err
		}
	}
	if len(a.f.loops) == 0 && a.f.outer {
		return nil, errInner
	}
	for _, l := range slices.Backward(a.f.loops) {
		if name == "" || strings.EqualFold(l.name, name) {
			return number(l.index + offset), nil
		}
	}
	if name != "" {
		return nil, a.fail("there is no copy loop '%s' here", clip(name))
	}
	return nil, a.fail("it can be used only in a copy loop")
}

func (a *arguments) resourceGroup() (value, error) {
	env := a.e.d.env
	if env.Group == nil {
		return nil, a.fail("the deployment is of a subscription, which has no resource group")
	}
	tags := object()
	for name, v := range env.Group.Tags {
		tags.Members = append(tags.Members, jsontree.Member{Key: name, Value: text(v)})
	}
	slices.SortFunc(tags.Members, func(a, b jsontree.Member) int { return strings.Compare(a.Key, b.Key) })
	return object("id", text(arm.GroupID(env.Subscription, env.Group.Name)), "name", text(env.Group.Name),
		"type", text("Microsoft.Resources/resourceGroups"), "location", text(env.Group.Location), "managedBy", nullValue(),
		"tags", tags, "properties", object("provisioningState", text("Succeeded"))), nil
}

func (a *arguments) subscription() (value, error) {
	env := a.e.d.env
	return object("id", text("/subscriptions/"+env.Subscription), "subscriptionId", text(env.Subscription),
		"tenantId", text(env.Tenant), "displayName", text(env.SubscriptionName)), nil
}

func (a *arguments) tenant() (value, error) {
	env := a.e.d.env
	return object("id", text("/tenants/"+env.Tenant), "tenantId", text(env.Tenant), "displayName", text(env.SubscriptionName), "countryCode", text("")), nil
}

func (a *arguments) deployment() (value, error) {
	env := a.e.d.env
	props := object("template", a.e.d.template.root, "mode", text(env.Mode), "provisioningState", text("Accepted"))
	out := object("name", text(env.Name), "properties", props)
	if env.Location != "" {
		out = with(out, "location", text(env.Location))
	}
	return out, nil
}

func (a *arguments) environment() (value, error) {
	env := a.e.d.env
	return object("name", text("AzureCloud"), "resourceManager", text(env.Endpoint), "portal", text(env.Endpoint),
		"authentication", object("loginEndpoint", text(env.Endpoint), "audiences", list([]value{text(env.Endpoint)}), "tenant", text("common"), "identityProvider", text("AAD")),
		"suffixes", object("storage", text(env.StorageSuffix), "keyvaultDns", text(""), "acrLoginServer", text(""), "sqlServerHostname", text(""))), nil
}

// resourceID is resourceId([subscription], [group], type, name...).
func (a *arguments) resourceID() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	i, err := a.typeAt(words, 2)
	if err != nil {
		return nil, err
	}
	env := a.e.d.env
	subscription, group := env.Subscription, ""
	if env.Group != nil {
		group = env.Group.Name
	}
	switch i {
	case 1:
		group = words[0]
		if env.Group == nil && isGUID(words[0]) {
			subscription, group = words[0], ""
		}
	case 2:
		subscription, group = words[0], words[1]
	}
	base := "/subscriptions/" + subscription
	if group != "" && !strings.EqualFold(words[i], typeGroup) {
		base = arm.GroupID(subscription, group)
	}
	return a.made(joinID(base, words[i], words[i+1:]))
}

func (a *arguments) subscriptionResourceID() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	i, err := a.typeAt(words, 1)
	if err != nil {
		return nil, err
	}
	subscription := a.e.d.env.Subscription
	if i == 1 {
		subscription = words[0]
	}
	return a.made(joinID("/subscriptions/"+subscription, words[i], words[i+1:]))
}

func (a *arguments) tenantResourceID() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	i, err := a.typeAt(words, 0)
	if err != nil {
		return nil, err
	}
	return a.made(joinID("", words[i], words[i+1:]))
}

func (a *arguments) extensionResourceID() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	i, err := a.typeAt(words[1:], 0)
	if err != nil {
		return nil, err
	}
	return a.made(joinID(strings.TrimSuffix(words[0], "/"), words[1+i], words[2+i:]))
}

// typeAt finds the type among the first words: it has a slash, and the names that
// its segments need follow it.
func (a *arguments) typeAt(words []string, last int) (int, error) {
	for i := 0; i <= last && i < len(words); i++ {
		if n := strings.Count(words[i], "/"); n > 0 && !strings.HasPrefix(words[i], "/") {
			if len(words)-i-1 != n {
				return 0, a.f.fail("unable to evaluate template language function '%s': the type '%s' requires '%d' resource name argument(s). Please see https://aka.ms/arm-functions#%s for usage details.", a.name, clip(words[i]), n, strings.ToLower(a.name))
			}
			return i, nil
		}
	}
	return 0, a.f.fail("unable to evaluate template language function '%s': the arguments name no resource type like 'Microsoft.Network/virtualNetworks'", a.name)
}

const typeGroup = "Microsoft.Resources/resourceGroups"

// joinID is base/providers/NAMESPACE/TYPE/NAME...; a resource group has an id of
// its own form.
func joinID(base, typ string, names []string) string {
	if strings.EqualFold(typ, typeGroup) && len(names) == 1 && strings.Count(base, "/") == 2 {
		return base + "/resourceGroups/" + names[0]
	}
	namespace, rest, _ := strings.Cut(typ, "/")
	var b strings.Builder
	b.WriteString(base + "/providers/" + namespace)
	for i, t := range strings.Split(rest, "/") {
		b.WriteString("/" + t)
		if i < len(names) {
			b.WriteString("/" + names[i])
		}
	}
	return b.String()
}

func isGUID(s string) bool {
	return len(s) == 36 && strings.Count(s, "-") == 4 && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF-", r) })
}

// early turns "known only while it runs" into an error: what stands at f must be
// known before.
func (f frame) early(err error) error {
	if errors.Is(err, errRuntime) {
		return f.fail("the template functions 'reference' and 'list*' are not expected at this location. Please see https://aka.ms/arm-functions for usage details.")
	}
	return err
}
