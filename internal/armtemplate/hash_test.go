package armtemplate

import "testing"

// The values are those that the real functions are known to make.
func TestHashes(t *testing.T) {
	for in, want := range map[string]string{
		"[uniqueString('test')]":            "rbgf3xv4ufgzg",
		"[uniqueString('hello', 'world')]":  "a7wkljktk6wne",
		"[uniqueString('abc')]":             "cgtzqvhu4i23s",
		"[uniqueString('foo','bar','baz')]": "xzi4ioaxtmth4",
		"[uniqueString('/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-rg')]": "bmg7c6xu4tw46",
	} {
		if got := evaluated(t, in); got != `"`+want+`"` {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
