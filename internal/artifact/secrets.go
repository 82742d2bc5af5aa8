package artifact

import "net/url"

// minSecret is the least length, in bytes, of what Secrets takes for one: "true"
// and "2024" are values of parameters that only sound like secrets.
const minSecret = 6

// Secrets lists what in uri grants access, as it is written and as it is meant:
// the password, and the values of the parameters that Redact replaces. There are
// none in text that does not parse as a URI.
func Secrets(uri string) []string {
	u, err := url.Parse(uri)
	if err != nil {
		return nil
	}
	var all []string
	add := func(secret string) {
		if len(secret) >= minSecret {
			all = append(all, secret)
		}
	}
	if password, ok := u.User.Password(); ok {
		add(password)
	}
	mapQuery(u.RawQuery, func(name, value string) (string, bool) {
		if !secretParam(name) {
			return "", false
		}
		add(value)
		if plain, err := url.QueryUnescape(value); err == nil && plain != value {
			add(plain)
		}
		return "", false
	})
	return all
}
