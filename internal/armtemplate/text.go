package armtemplate

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/jsontree"
)

func init() {
	register(map[string]function{
		"concat":               {1, -1, (*arguments).concat},
		"format":               {1, -1, (*arguments).format},
		"toLower":              {1, 1, onText(strings.ToLower)},
		"toUpper":              {1, 1, onText(strings.ToUpper)},
		"trim":                 {1, 1, onText(strings.TrimSpace)},
		"base64":               {1, 1, onText(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		"base64ToString":       {1, 1, (*arguments).unbase64},
		"base64ToJson":         {1, 1, (*arguments).unbase64JSON},
		"dataUri":              {1, 1, (*arguments).dataURI},
		"dataUriToString":      {1, 1, (*arguments).undataURI},
		"uri":                  {2, 2, (*arguments).uri},
		"uriComponent":         {1, 1, onText(escape)},
		"uriComponentToString": {1, 1, (*arguments).unescape},
		"replace":              {3, 3, (*arguments).replace},
		"split":                {2, 2, (*arguments).split},
		"join":                 {2, 2, (*arguments).join},
		"substring":            {2, 3, (*arguments).substring},
		"padLeft":              {2, 3, (*arguments).padLeft},
		"startsWith":           {2, 2, ofTexts(func(s, p string) value { return boolean(strings.HasPrefix(s, p)) })},
		"endsWith":             {2, 2, ofTexts(func(s, p string) value { return boolean(strings.HasSuffix(s, p)) })},
		"string":               {1, 1, (*arguments).str},
		"json":                 {1, 1, (*arguments).json},
	})
}

// onText is a function of one string.
func onText(do func(string) string) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		s, err := a.word(0)
		if err != nil {
			return nil, err
		}
		return a.made(do(s))
	}
}

// ofTexts is a function of two strings that are compared without regard to case.
func ofTexts(do func(s, with string) value) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		words, err := a.words()
		if err != nil {
			return nil, err
		}
		return do(strings.ToLower(words[0]), strings.ToLower(words[1])), nil
	}
}

// concat joins strings, or arrays.
func (a *arguments) concat() (value, error) {
	if a.args[0].Kind == jsontree.Array {
		var all []value
		for i := range a.args {
			items, err := a.list(i)
			if err != nil {
				return nil, err
			}
			if err := a.e.spend(a.f, len(items)); err != nil {
				return nil, err
			}
			all = append(all, items...)
		}
		return list(all), nil
	}
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	return a.joined(words, "")
}

// joined is strings.Join with a look at the length before.
func (a *arguments) joined(words []string, between string) (value, error) {
	n := 0
	for _, w := range words {
		if n += len(w) + len(between); n > maxText+len(between) {
			return nil, a.fail("the string has more than %d bytes", maxText)
		}
	}
	return a.made(strings.Join(words, between))
}

// format fills {0}, {1,-8} and {2:D3} as .NET's String.Format does.
func (a *arguments) format() (value, error) {
	s, err := a.text(0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, a.fail("a '{' has no '}'")
			}
			item, err := a.item(s[i+1 : i+end])
			if err != nil {
				return nil, err
			}
			b.WriteString(item)
			i += end
		case c == '}':
			return nil, a.fail("a '}' has no '{'")
		default:
			b.WriteByte(c)
		}
		if b.Len() > maxText {
			return nil, a.fail("the string has more than %d bytes", maxText)
		}
	}
	return a.made(b.String())
}

// item is one item of a format: INDEX[,WIDTH][:FORM].
func (a *arguments) item(s string) (string, error) {
	index, form, _ := strings.Cut(s, ":")
	index, width, wide := strings.Cut(index, ",")
	n, err := strconv.Atoi(strings.TrimSpace(index))
	if err != nil || n < 0 || !a.has(n+1) {
		return "", a.fail("'{%s}' names no argument", clip(s))
	}
	word, err := a.formed(a.args[n+1], form)
	if err != nil || !wide {
		return word, err
	}
	w, err := strconv.Atoi(strings.TrimSpace(width))
	if err != nil || w > 1000 || w < -1000 {
		return "", a.fail("'{%s}' has no valid width", clip(s))
	}
	pad := strings.Repeat(" ", max(0, max(w, -w)-utf8.RuneCountInString(word)))
	if w < 0 {
		return word + pad, nil
	}
	return pad + word, nil
}

func (a *arguments) formed(v value, form string) (string, error) {
	if v.Kind == jsontree.Array || v.Kind == jsontree.Object {
		if err := a.e.charge(a.f, v, 0); err != nil {
			return "", err
		}
	}
	n, isNumber := whole(v)
	if form == "" || !isNumber {
		return show(v), nil
	}
	digits, err := strconv.Atoi(form[1:])
	if form[1:] == "" {
		digits, err = 0, nil
	}
	switch {
	case strings.Trim(form, "0") == "" && len(form) <= 64:
		return zeros(n, 10, len(form)), nil
	case err != nil || digits < 0 || digits > 64:
	case form[0] == 'D' || form[0] == 'd':
		return zeros(n, 10, digits), nil
	case form[0] == 'X' && n >= 0:
		return strings.ToUpper(zeros(n, 16, digits)), nil
	case form[0] == 'x' && n >= 0:
		return zeros(n, 16, digits), nil
	}
	return "", a.fail("the form '%s' of numbers is not offered: D, X and zeros are", clip(form))
}

func zeros(n int64, base, digits int) string {
	s, sign := strconv.FormatInt(n, base), ""
	if n < 0 {
		s, sign = s[1:], "-"
	}
	return sign + strings.Repeat("0", max(0, digits-len(s))) + s
}

func (a *arguments) unbase64() (value, error) {
	s, err := a.text(0)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(raw) {
		return nil, a.fail("the string is not text in base64")
	}
	return a.made(string(raw))
}

func (a *arguments) unbase64JSON() (value, error) {
	v, err := a.unbase64()
	if err != nil {
		return nil, err
	}
	return a.parsed(v.Text)
}

func (a *arguments) dataURI() (value, error) {
	s, err := a.word(0)
	if err != nil {
		return nil, err
	}
	return a.made("data:text/plain;charset=utf8;base64," + base64.StdEncoding.EncodeToString([]byte(s)))
}

func (a *arguments) undataURI() (value, error) {
	s, err := a.text(0)
	if err != nil {
		return nil, err
	}
	head, data, ok := strings.Cut(strings.TrimPrefix(s, "data:"), ",")
	if !ok || !strings.HasPrefix(s, "data:") {
		return nil, a.fail("the string is no data URI")
	}
	if strings.HasSuffix(head, ";base64") {
		a.args[0] = text(data)
		return a.unbase64()
	}
	a.args[0] = text(data)
	return a.unescape()
}

func (a *arguments) uri() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(words[0])
	if err != nil || !base.IsAbs() {
		return nil, a.fail("'%s' is not an absolute address", clip(words[0]))
	}
	to, err := base.Parse(words[1])
	if err != nil {
		return nil, a.fail("'%s' is not a relative address", clip(words[1]))
	}
	return a.made(to.String())
}

// escape is escaping for a part of an address: all but letters, digits and -_.~.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func (a *arguments) unescape() (value, error) {
	s, err := a.text(0)
	if err != nil {
		return nil, err
	}
	out, err := url.PathUnescape(s)
	if err != nil {
		return nil, a.fail("the string is not escaped as a part of an address is")
	}
	return a.made(out)
}

func (a *arguments) replace() (value, error) {
	words, err := a.words()
	if err != nil {
		return nil, err
	}
	s, old, by := words[0], words[1], words[2]
	if old == "" {
		return nil, a.fail("the text to replace is empty")
	}
	if n := strings.Count(s, old); len(s)+n*(len(by)-len(old)) > maxText {
		return nil, a.fail("the string has more than %d bytes", maxText)
	}
	return a.made(strings.ReplaceAll(s, old, by))
}

// split cuts at one separator, or at any of several.
func (a *arguments) split() (value, error) {
	s, err := a.word(0)
	if err != nil {
		return nil, err
	}
	separators := []value{a.args[1]}
	if a.args[1].Kind == jsontree.Array {
		separators = a.args[1].Items
	}
	parts := []string{s}
	for _, sep := range separators {
		if sep.Kind != jsontree.String {
			return nil, a.wrong(1, "a string or an array of them")
		}
		if sep.Text == "" {
			continue
		}
		var next []string
		for _, p := range parts {
			next = append(next, strings.Split(p, sep.Text)...)
		}
		if parts = next; len(parts) > maxNodes {
			return nil, a.fail("it makes more than %d strings", maxNodes)
		}
	}
	out := make([]value, len(parts))
	for i, p := range parts {
		out[i] = text(p)
	}
	return list(out), nil
}

func (a *arguments) join() (value, error) {
	items, err := a.list(0)
	if err != nil {
		return nil, err
	}
	between, err := a.text(1)
	if err != nil {
		return nil, err
	}
	words := make([]string, len(items))
	for i, v := range items {
		if v.Kind == jsontree.Array || v.Kind == jsontree.Object {
			return nil, a.fail("element %d of the array is %s: only strings and numbers are joined", i, v.Kind)
		}
		words[i] = show(v)
	}
	return a.joined(words, between)
}

func (a *arguments) substring() (value, error) {
	s, err := a.word(0)
	if err != nil {
		return nil, err
	}
	runes := []rune(s)
	start, err := a.number(1)
	if err != nil {
		return nil, err
	}
	length := int64(len(runes)) - start
	if a.has(2) && !isNull(a.args[2]) {
		if length, err = a.number(2); err != nil {
			return nil, err
		}
	}
	if start < 0 || length < 0 || start > int64(len(runes)) || length > int64(len(runes))-start {
		return nil, a.fail("%d characters from %d on are not in a string of %d", length, start, len(runes))
	}
	return a.made(string(runes[start : start+length]))
}

func (a *arguments) padLeft() (value, error) {
	s, err := a.word(0)
	if err != nil {
		return nil, err
	}
	width, err := a.number(1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if a.has(2) {
		if pad, err = a.word(2); err != nil {
			return nil, err
		}
	}
	if utf8.RuneCountInString(pad) != 1 || width < 0 || width > 8192 {
		return nil, a.fail("it takes a width from 0 to 8192 and one character")
	}
	return a.made(strings.Repeat(pad, max(0, int(width)-utf8.RuneCountInString(s))) + s)
}

func (a *arguments) str() (value, error) {
	if err := a.e.charge(a.f, a.args[0], 0); err != nil {
		return nil, err
	}
	return a.made(show(a.args[0]))
}

func (a *arguments) json() (value, error) {
	s, err := a.text(0)
	if err != nil {
		return nil, err
	}
	return a.parsed(s)
}

func (a *arguments) parsed(s string) (value, error) {
	n, err := jsontree.Parse([]byte(s), jsontree.Limits{Bytes: maxText, Depth: maxDepth, Values: maxNodes})
	if err != nil {
		return nil, a.fail("the string is not JSON: %v", err)
	}
	return n, a.e.charge(a.f, n, 0)
}

// capital begins with a capital letter.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}
