package armtemplate

import (
	"slices"
	"strings"
	"unicode/utf8"

	"goldsmith/internal/jsontree"
)

func init() {
	register(map[string]function{
		"length":       {1, 1, (*arguments).length},
		"empty":        {1, 1, (*arguments).empty},
		"contains":     {2, 2, (*arguments).contains},
		"first":        {1, 1, (*arguments).first},
		"last":         {1, 1, (*arguments).last},
		"take":         {2, 2, (*arguments).take},
		"skip":         {2, 2, (*arguments).skip},
		"indexOf":      {2, 2, position(strings.Index, slices.IndexFunc[[]value])},
		"lastIndexOf":  {2, 2, position(strings.LastIndex, lastIndexFunc)},
		"union":        {1, -1, (*arguments).union},
		"intersection": {1, -1, (*arguments).intersection},
		"array":        {1, 1, (*arguments).array},
		"createArray":  {0, -1, func(a *arguments) (value, error) { return list(a.args), nil }},
		"createObject": {0, -1, (*arguments).createObject},
		"items":        {1, 1, (*arguments).items},
		"objectKeys":   {1, 1, (*arguments).keys},
		"flatten":      {1, 1, (*arguments).flatten},
		"shallowMerge": {1, 1, (*arguments).shallowMerge},
		"tryGet":       {2, -1, (*arguments).tryGet},
	})
}

func (a *arguments) length() (value, error) {
	switch v := a.args[0]; v.Kind {
	case jsontree.Array:
		return number(int64(len(v.Items))), nil
	case jsontree.Object:
		return number(int64(len(live(v)))), nil
	case jsontree.String:
		return number(int64(utf8.RuneCountInString(v.Text))), nil
	}
	return nil, a.wrong(0, "a string, an array or an object")
}

func (a *arguments) empty() (value, error) {
	if isNull(a.args[0]) {
		return boolean(true), nil
	}
	n, err := a.length()
	if err != nil {
		return nil, err
	}
	return boolean(n.Text == "0"), nil
}

func (a *arguments) contains() (value, error) {
	switch in, what := a.args[0], a.args[1]; in.Kind {
	case jsontree.Array:
		if err := a.e.spend(a.f, len(in.Items)); err != nil {
			return nil, err
		}
		return boolean(slices.ContainsFunc(in.Items, func(v value) bool { return same(v, what) })), nil
	case jsontree.Object:
		key, err := a.word(1)
		return boolean(in.Fold(key) != nil), err
	case jsontree.String:
		part, err := a.word(1)
		return boolean(strings.Contains(in.Text, part)), err
	}
	return nil, a.wrong(0, "a string, an array or an object")
}

func (a *arguments) first() (value, error) {
	return a.end(func(int) int { return 0 })
}

func (a *arguments) last() (value, error) {
	return a.end(func(n int) int { return n - 1 })
}

// end is an element of an array, null without one, or a character of a string.
func (a *arguments) end(which func(n int) int) (value, error) {
	switch v := a.args[0]; v.Kind {
	case jsontree.Array:
		if len(v.Items) == 0 {
			return nullValue(), nil
		}
		return v.Items[which(len(v.Items))], nil
	case jsontree.String:
		runes := []rune(v.Text)
		if len(runes) == 0 {
			return text(""), nil
		}
		return text(string(runes[which(len(runes))])), nil
	}
	return nil, a.wrong(0, "a string or an array")
}

func (a *arguments) take() (value, error) {
	return a.part(func(n, length int) (from, to int) { return 0, n })
}

func (a *arguments) skip() (value, error) {
	return a.part(func(n, length int) (from, to int) { return n, length })
}

func (a *arguments) part(cut func(n, length int) (from, to int)) (value, error) {
	n, err := a.number(1)
	if err != nil {
		return nil, err
	}
	switch v := a.args[0]; v.Kind {
	case jsontree.Array:
		from, to := cut(int(max(0, min(n, int64(len(v.Items))))), len(v.Items))
		return list(v.Items[from:to:to]), nil
	case jsontree.String:
		runes := []rune(v.Text)
		from, to := cut(int(max(0, min(n, int64(len(runes))))), len(runes))
		return text(string(runes[from:to])), nil
	}
	return nil, a.wrong(0, "a string or an array")
}

// position looks for a part of a string, without regard to case, or an element.
func position(in func(s, part string) int, among func([]value, func(value) bool) int) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		if v := a.args[0]; v.Kind == jsontree.Array {
			if err := a.e.spend(a.f, len(v.Items)); err != nil {
				return nil, err
			}
			return number(int64(among(v.Items, func(i value) bool { return same(i, a.args[1]) }))), nil
		}
		s, err := a.text(0)
		if err != nil {
			return nil, err
		}
		part, err := a.text(1)
		if err != nil {
			return nil, err
		}
		low := strings.ToLower(s)
		i := in(low, strings.ToLower(part))
		if i > 0 {
			i = utf8.RuneCountInString(low[:i])
		}
		return number(int64(i)), nil
	}
}

func lastIndexFunc(items []value, is func(value) bool) int {
	for i := len(items) - 1; i >= 0; i-- {
		if is(items[i]) {
			return i
		}
	}
	return -1
}

// union is the elements of all arrays, each once, or the members of all objects,
// later ones over earlier ones and objects into each other.
func (a *arguments) union() (value, error) {
	if a.args[0].Kind == jsontree.Object {
		out := a.args[0]
		for i := range a.args {
			v, err := a.object(i)
			if err != nil {
				return nil, err
			}
			if out, err = a.merge(out, v, 0); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	set := valueSet{}
	for i := range a.args {
		items, err := a.list(i)
		if err != nil {
			return nil, err
		}
		for _, v := range items {
			if err := a.e.charge(a.f, v, 0); err != nil {
				return nil, err
			}
			set.add(v)
		}
	}
	return list(set.items), nil
}

func (a *arguments) merge(to, from value, depth int) (value, error) {
	if err := a.e.spend(a.f, 1+len(to.Members)+len(from.Members)); err != nil {
		return nil, err
	}
	out := &jsontree.Node{Kind: jsontree.Object, Members: slices.Clone(live(to))}
	place := make(map[string]int, len(out.Members))
	for i, m := range out.Members {
		place[strings.ToLower(m.Key)] = i
	}
	for _, m := range live(from) {
		i, known := place[strings.ToLower(m.Key)]
		if !known {
			place[strings.ToLower(m.Key)] = len(out.Members)
			out.Members = append(out.Members, m)
			continue
		}
		v := m.Value
		if old := out.Members[i].Value; depth < maxDepth && v.Kind == jsontree.Object && old.Kind == jsontree.Object {
			var err error
			if v, err = a.merge(old, v, depth+1); err != nil {
				return nil, err
			}
		}
		out.Members[i].Value = v
	}
	return out, nil
}

// valueSet holds each value once, in order.
type valueSet struct {
	items []value
	seen  map[string]bool
}

func (s *valueSet) add(v value) {
	key := canonical(v)
	if s.seen[key] {
		return
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[key] = true
	s.items = append(s.items, v)
}

// canonical is a text that equal values share.
func canonical(v value) string {
	switch v.Kind {
	case jsontree.Object:
		members := slices.Clone(live(v))
		slices.SortStableFunc(members, func(a, b jsontree.Member) int {
			return strings.Compare(strings.ToLower(a.Key), strings.ToLower(b.Key))
		})
		var b strings.Builder
		for _, m := range members {
			b.Write(text(strings.ToLower(m.Key)).Append(nil))
			b.WriteString(":" + canonical(m.Value) + ",")
		}
		return "{" + b.String() + "}"
	case jsontree.Array:
		var b strings.Builder
		for _, i := range v.Items {
			b.WriteString(canonical(i) + ",")
		}
		return "[" + b.String() + "]"
	}
	if n, ok := whole(v); ok {
		return number(n).Text
	}
	return string(v.Append(nil))
}

func (a *arguments) intersection() (value, error) {
	out := a.args[0]
	for i, v := range a.args {
		if v.Kind != out.Kind || (v.Kind != jsontree.Array && v.Kind != jsontree.Object) {
			return nil, a.wrong(i, "an array, or all must be objects")
		}
		if err := a.e.charge(a.f, v, 0); err != nil {
			return nil, err
		}
		var other valueSet
		kept := &jsontree.Node{Kind: v.Kind}
		for _, item := range v.Items {
			other.add(item)
		}
		for _, item := range out.Items {
			if other.seen[canonical(item)] {
				kept.Items = append(kept.Items, item)
			}
		}
		for _, m := range live(out) {
			if has := v.Fold(m.Key); has != nil && same(has, m.Value) {
				kept.Members = append(kept.Members, m)
			}
		}
		out = kept
	}
	if out.Kind == jsontree.Array {
		var set valueSet
		for _, item := range out.Items {
			set.add(item)
		}
		return list(set.items), nil
	}
	return out, nil
}

func (a *arguments) array() (value, error) {
	if a.args[0].Kind == jsontree.Array {
		return a.args[0], nil
	}
	return list(a.args), nil
}

func (a *arguments) createObject() (value, error) {
	if len(a.args)%2 != 0 {
		return nil, a.fail("it takes names and values in turn")
	}
	out := &jsontree.Node{Kind: jsontree.Object}
	place := map[string]int{}
	for i := 0; i < len(a.args); i += 2 {
		key, err := a.text(i)
		if err != nil {
			return nil, err
		}
		at, known := place[strings.ToLower(key)]
		if known {
			out.Members[at].Value = a.args[i+1]
			continue
		}
		place[strings.ToLower(key)] = len(out.Members)
		out.Members = append(out.Members, jsontree.Member{Key: key, Value: a.args[i+1]})
	}
	return out, nil
}

// sorted are the members of object i by name.
func (a *arguments) sorted(i int) ([]jsontree.Member, error) {
	o, err := a.object(i)
	if err != nil {
		return nil, err
	}
	members := slices.Clone(live(o))
	slices.SortStableFunc(members, func(a, b jsontree.Member) int {
		return strings.Compare(strings.ToLower(a.Key), strings.ToLower(b.Key))
	})
	return members, nil
}

func (a *arguments) items() (value, error) {
	members, err := a.sorted(0)
	out := make([]value, len(members))
	for i, m := range members {
		out[i] = object("key", text(m.Key), "value", m.Value)
	}
	return list(out), err
}

func (a *arguments) keys() (value, error) {
	members, err := a.sorted(0)
	out := make([]value, len(members))
	for i, m := range members {
		out[i] = text(m.Key)
	}
	return list(out), err
}

func (a *arguments) flatten() (value, error) {
	lists, err := a.list(0)
	if err != nil {
		return nil, err
	}
	var out []value
	for i, l := range lists {
		if l.Kind != jsontree.Array {
			return nil, a.fail("element %d is %s, not an array", i, l.Kind)
		}
		if err := a.e.spend(a.f, len(l.Items)); err != nil {
			return nil, err
		}
		out = append(out, l.Items...)
	}
	return list(out), nil
}

func (a *arguments) shallowMerge() (value, error) {
	objects, err := a.list(0)
	if err != nil {
		return nil, err
	}
	out := value(&jsontree.Node{Kind: jsontree.Object})
	for i, o := range objects {
		if o.Kind != jsontree.Object {
			return nil, a.fail("element %d is %s, not an object", i, o.Kind)
		}
		if out, err = a.merge(out, o, maxDepth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tryGet is a member at a path of names and indexes, null when it is not there.
func (a *arguments) tryGet() (value, error) {
	v := a.args[0]
	for _, index := range a.args[1:] {
		if isNull(v) {
			return nullValue(), nil
		}
		var next value
		switch i, isIndex := whole(index); {
		case v.Kind == jsontree.Object && index.Kind == jsontree.String:
			next = v.Fold(index.Text)
		case v.Kind == jsontree.Array && isIndex:
			if i >= 0 && i < int64(len(v.Items)) {
				next = v.Items[i]
			}
		default:
			return nil, a.fail("%s has no member '%s'", v.Kind, clip(show(index)))
		}
		if next == nil {
			return nullValue(), nil
		}
		v = next
	}
	return v, nil
}
