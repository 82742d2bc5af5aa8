package armtemplate

import (
	"strings"

	"goldsmith/internal/jsontree"
)

func init() {
	register(map[string]function{
		"reference":    {1, 3, (*arguments).reference},
		"references":   {1, 2, (*arguments).references},
		"resourceInfo": {1, 1, (*arguments).resourceInfo},
	})
}

// reference is the state of a resource: one of the template by its symbolic name,
// its name or its id, or one that exists by id and version.
func (a *arguments) reference() (value, error) {
	word, err := a.text(0)
	if err != nil {
		return nil, err
	}
	version := ""
	if a.has(1) && !isNull(a.args[1]) {
		if version, err = a.text(1); err != nil {
			return nil, err
		}
	}
	full, err := a.full(2)
	if err != nil {
		return nil, err
	}
	found := a.e.d.find(word)
	switch {
	case len(found) > 1:
		return nil, a.fail("'%s' names %d resources of the template: give the id of one", clip(word), len(found))
	case len(found) == 0 && !strings.HasPrefix(word, "/"):
		return nil, a.fail("the resource '%s' is not defined in the template, and is no full resource id. Please see https://aka.ms/arm-syntax for usage details.", clip(word))
	case len(found) == 0 && version == "":
		return nil, a.fail("'%s' is not a resource of the template: the version of its type must be given as second argument", clip(word))
	case len(found) == 0:
		return a.read(word, version, full)
	}
	return a.state(found[0], version, full)
}

func (a *arguments) full(i int) (bool, error) {
	if !a.has(i) || isNull(a.args[i]) {
		return false, nil
	}
	s, err := a.text(i)
	if err == nil && !strings.EqualFold(s, "full") {
		err = a.fail("argument %d must be 'Full'", i+1)
	}
	return true, err
}

// state reads a resource of the template.
func (a *arguments) state(r *Resource, version string, full bool) (value, error) {
	if !r.Condition {
		return nil, a.fail("the resource '%s' is not deployed, because its condition does not hold", r.ID)
	}
	if version == "" {
		version = r.APIVersion
	}
	return a.read(r.ID, version, full)
}

func (a *arguments) read(id, version string, full bool) (value, error) {
	if a.f.functions || a.f.defaults {
		return nil, a.fail("it cannot be used here: the value would be known only while the deployment runs")
	}
	if a.e.runtime == nil {
		return nil, errRuntime
	}
	v, err := a.e.runtime.Reference(id, version, full)
	if err != nil {
		return nil, a.f.wrap(err)
	}
	return v, nil
}

// references are the states of all resources of a copy loop.
func (a *arguments) references() (value, error) {
	word, err := a.text(0)
	if err != nil {
		return nil, err
	}
	full, err := a.full(1)
	if err != nil {
		return nil, err
	}
	found := a.e.d.symbols[strings.ToLower(word)]
	if found == nil {
		return nil, a.fail("'%s' is no symbolic name of the template", clip(word))
	}
	var out []value
	for _, r := range found {
		v, err := a.state(r, "", full)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return list(out), nil
}

// resourceInfo is what is known of a resource of the template beforehand.
func (a *arguments) resourceInfo() (value, error) {
	word, err := a.text(0)
	if err != nil {
		return nil, err
	}
	found := a.e.d.symbols[strings.ToLower(word)]
	if len(found) != 1 {
		return nil, a.fail("'%s' is no symbolic name of one resource of the template", clip(word))
	}
	r := found[0]
	return object("id", text(r.ID), "name", text(r.Name[strings.LastIndexByte(r.Name, '/')+1:]), "type", text(r.Type), "apiVersion", text(r.APIVersion)), nil
}

// listing reports whether a name is that of an action that lists: listKeys.
func listing(name string) bool {
	return strings.HasPrefix(name, "list") && len(name) > len("list") && !strings.Contains(name, ".")
}

// listAction is listKeys(id, version, [body]) and the like.
func (a *arguments) listAction() (value, error) {
	id, err := a.text(0)
	if err != nil {
		return nil, err
	}
	version := ""
	if a.has(1) {
		if version, err = a.text(1); err != nil {
			return nil, err
		}
	}
	if found := a.e.d.find(id); len(found) == 1 {
		id = found[0].ID
		if version == "" {
			version = found[0].APIVersion
		}
	}
	if !strings.HasPrefix(id, "/") || version == "" {
		return nil, a.fail("it takes a full resource id and the version of its type")
	}
	var body *jsontree.Node
	if a.has(2) {
		if body, err = a.object(2); err != nil {
			return nil, err
		}
	}
	if a.f.functions || a.f.defaults || a.e.runtime == nil {
		return nil, errRuntime
	}
	v, err := a.e.runtime.List(a.name, id, version, body)
	if err != nil {
		return nil, a.f.wrap(err)
	}
	return v, nil
}
