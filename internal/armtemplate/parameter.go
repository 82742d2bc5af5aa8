package armtemplate

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// parameter is a parameter as the template declares it.
type parameter struct {
	name   string
	def    value // the declaration, with what it refers to resolved
	typ    string
	secret bool
}

// types are the types of parameters and outputs by lower-case name, as they are
// shown.
var types = map[string]string{
	"string": "String", "securestring": "SecureString", "int": "Int", "bool": "Bool",
	"object": "Object", "secureobject": "SecureObject", "array": "Array",
}

// isSecret reports whether values of a type must not be shown.
func isSecret(typ string) bool { return strings.HasPrefix(strings.ToLower(typ), "secure") }

func (t *Template) readParameters() error {
	members, err := t.section("parameters", maxParameters)
	if err != nil {
		return err
	}
	for _, m := range members {
		f := frame{}.at(m.Value, dot("parameters", m.Key))
		def, err := t.resolve(f, m.Value)
		if err != nil {
			return err
		}
		typ := def.Fold("type")
		if typ == nil || types[strings.ToLower(typ.Text)] == "" {
			return f.invalid("the parameter '%s' needs a 'type': string, securestring, int, bool, object, secureobject or array", m.Key)
		}
		t.parameters = append(t.parameters, parameter{name: m.Key, def: def, typ: typ.Text, secret: isSecret(typ.Text)})
	}
	return nil
}

// resolve follows "$ref": "#/definitions/NAME". Members beside it stay.
func (t *Template) resolve(f frame, def value) (value, error) {
	for range maxDepth {
		ref := def.Fold("$ref")
		if ref == nil {
			return def, nil
		}
		name, ok := strings.CutPrefix(ref.Text, "#/definitions/")
		target := t.root.Fold("definitions").Fold(strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
		if !ok || target == nil || target.Kind != jsontree.Object {
			return nil, f.at(def, f.path).invalid("'$ref' names '%s', which is no definition of the template", clip(ref.Text))
		}
		merged := target
		for _, m := range live(def) {
			if !strings.EqualFold(m.Key, "$ref") {
				merged = with(merged, m.Key, m.Value)
			}
		}
		def = at(merged, def)
	}
	return nil, f.invalid("the definitions refer to each other in a circle")
}

// bind gives parameters their values: those that were given, or their defaults.
func (d *Deployment) bind(given value) error {
	t := d.template
	e := d.evaluator(nil)
	for _, m := range live(given) {
		if !t.hasParameter(m.Key) {
			var names []string
			for _, p := range t.parameters {
				names = append(names, p.name)
			}
			return arm.Errorf(CodeInvalid, "deployment template validation failed: 'The template parameters '%s' in the parameters file are not valid; they are not present in the original template and can therefore not be provided at deployment time. The only supported parameters for this template are '%s'. Please see https://aka.ms/arm-pass-parameter-values for usage details.'",
				clip(m.Key), clip(strings.Join(names, ", "))).At("parameters." + m.Key)
		}
	}
	for i, p := range t.parameters {
		f := frame{}.at(p.def, dot("parameters", p.name))
		v, err := d.given(f, given, p)
		if err != nil {
			return err
		}
		if v == nil {
			def := p.def.Fold("defaultValue")
			switch {
			case def != nil:
				inner := f.at(def, f.path+".defaultValue")
				inner.defaults = true
				if v, err = e.tree(inner, def); err != nil {
					return err
				}
			case nullable(p.def):
				v = nullValue()
			default:
				return f.invalid("The value for the template parameter '%s' at line '%d' and column '%d' is not provided. Please see https://aka.ms/arm-create-parameter-file for usage details.", p.name, p.def.Line, p.def.Column)
			}
		}
		if err := t.check(f, p.name, p.def, v, 0); err != nil {
			return err
		}
		d.values[strings.ToLower(t.parameters[i].name)] = v
	}
	return nil
}

func (t *Template) hasParameter(name string) bool {
	for _, p := range t.parameters {
		if strings.EqualFold(p.name, name) {
			return true
		}
	}
	return false
}

// given is the value that was given for a parameter, nil for none.
func (d *Deployment) given(f frame, given value, p parameter) (value, error) {
	in := given.Fold(p.name)
	if isNull(in) {
		return nil, nil
	}
	if in.Kind != jsontree.Object {
		return nil, f.invalid("the parameter '%s' must be given as {\"value\": ...}, not as %s", p.name, in.Kind)
	}
	if in.Fold("reference") != nil {
		return nil, f.invalid("the parameter '%s' refers to a key vault, and this service has none: give its value", p.name)
	}
	v := in.Fold("value")
	if isNull(v) && !(v != nil && nullable(p.def)) {
		return nil, nil // null stands for what is not given, where it is no value
	}
	return v, nil
}

func nullable(def value) bool {
	n := def.Fold("nullable")
	return n != nil && truth(n)
}

// check says why a value does not fit its declaration.
func (t *Template) check(f frame, name string, def, v value, depth int) error {
	if depth > maxDepth {
		return f.invalid("the definition of '%s' is nested too deep", name)
	}
	def, err := t.resolve(f, def)
	if err != nil {
		return err
	}
	if isNull(v) && nullable(def) {
		return nil
	}
	typ := def.Fold("type")
	if typ == nil {
		return nil
	}
	kinds := map[string]jsontree.Kind{
		"string": jsontree.String, "securestring": jsontree.String, "int": jsontree.Number, "bool": jsontree.Bool,
		"object": jsontree.Object, "secureobject": jsontree.Object, "array": jsontree.Array,
	}
	kind, known := kinds[strings.ToLower(typ.Text)]
	if !known {
		return f.invalid("the type '%s' of '%s' is not known", clip(typ.Text), name)
	}
	if _, isWhole := whole(v); v.Kind != kind || (kind == jsontree.Number && !isWhole) {
		return f.invalid("template parameter JToken type is not valid. Expected '%s'. Actual '%s' for the parameter '%s'. Please see https://aka.ms/resource-manager-parameter-files for usage details.", types[strings.ToLower(typ.Text)], kindName(v), name)
	}
	if allowed := def.Fold("allowedValues"); allowed != nil && kind != jsontree.Array && !has(allowed.Items, v) {
		shown := "'" + clip(show(v)) + "'"
		if isSecret(typ.Text) {
			shown = "given"
		}
		return f.invalid("the provided value %s for the template parameter '%s' is not valid. The parameter value is not part of the allowed value(s): '%s'.", shown, name, clip(joinAll(allowed.Items)))
	} else if allowed != nil && kind == jsontree.Array {
		for _, item := range v.Items {
			if !has(allowed.Items, item) && !has(allowed.Items, v) {
				return f.invalid("the element '%s' of the template parameter '%s' is not part of the allowed value(s): '%s'.", clip(show(item)), name, clip(joinAll(allowed.Items)))
			}
		}
	}
	if err := f.checkBounds(name, def, v); err != nil {
		return err
	}
	return t.checkParts(f, name, def, v, depth)
}

// checkBounds looks at minValue, maxValue, minLength and maxLength.
func (f frame) checkBounds(name string, def, v value) error {
	size, what := int64(-1), "length"
	switch v.Kind {
	case jsontree.Number:
		size, _ = whole(v)
		what = "value"
	case jsontree.String:
		size = int64(utf8.RuneCountInString(v.Text))
	case jsontree.Array:
		size = int64(len(v.Items))
	default:
		return nil
	}
	suffix := capital(what)
	if n := def.Fold("min" + suffix); n != nil {
		if least, ok := whole(n); ok && size < least {
			return f.invalid("the provided value for the template parameter '%s' at line '%d' and column '%d' is not valid: its %s is %s, and the least is %d.", name, def.Line, def.Column, what, strconv.FormatInt(size, 10), least)
		}
	}
	if n := def.Fold("max" + suffix); n != nil {
		if most, ok := whole(n); ok && size > most {
			return f.invalid("the provided value for the template parameter '%s' at line '%d' and column '%d' is not valid: its %s is %s, and the greatest is %d.", name, def.Line, def.Column, what, strconv.FormatInt(size, 10), most)
		}
	}
	return nil
}

// checkParts looks at the members of objects and the elements of arrays that have
// declarations of their own.
func (t *Template) checkParts(f frame, name string, def, v value, depth int) error {
	if props := def.Fold("properties"); v.Kind == jsontree.Object && props != nil {
		for _, p := range live(props) {
			part := v.Fold(p.Key)
			inner := f.at(p.Value, f.path)
			if part == nil {
				resolved, err := t.resolve(inner, p.Value)
				if err != nil {
					return err
				}
				if nullable(resolved) || resolved.Fold("defaultValue") != nil {
					continue
				}
				return f.invalid("the template parameter '%s' lacks the member '%s'", name, p.Key)
			}
			if err := t.check(inner, name+"."+p.Key, p.Value, part, depth+1); err != nil {
				return err
			}
		}
	}
	if items := def.Fold("items"); v.Kind == jsontree.Array && items != nil && items.Kind == jsontree.Object {
		for i, item := range v.Items {
			if err := t.check(f, name+"["+strconv.Itoa(i)+"]", items, item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func has(items []value, v value) bool {
	for _, i := range items {
		if same(i, v) || (i.Kind == jsontree.String && v.Kind == jsontree.String && strings.EqualFold(i.Text, v.Text)) {
			return true
		}
	}
	return false
}

func joinAll(items []value) string {
	var out []string
	for _, i := range items {
		out = append(out, show(i))
	}
	return strings.Join(out, ",")
}
