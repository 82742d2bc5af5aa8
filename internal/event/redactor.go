package event

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted stands in for a secret.
const Redacted = "***"

const (
	// minSecret is the least length, in bytes, of a secret that is redacted: a
	// shorter one would blank out half of every log and is no secret.
	minSecret = 4
	// minLine is the least length of one line of a multi-line secret.
	minLine = 8
	// maxForm bounds how much of an endless line is held back so that no secret
	// is cut in two; longer forms are matched piece by piece.
	maxForm = 8 << 10
)

// Redactor replaces registered secrets, and the forms in which programs usually
// print them (base64, hex, URL, JSON and shell escapes, each line of a key), by
// Redacted. It is safe for concurrent use; a nil Redactor replaces nothing.
type Redactor struct {
	mu    sync.Mutex
	forms map[string]bool
	ready atomic.Pointer[matcher]
}

type matcher struct {
	replacer *strings.Replacer
	forms    [][]byte // longest first
}

// Add registers secrets. Those shorter than 4 bytes are ignored.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forms == nil {
		r.forms = map[string]bool{}
	}
	for _, secret := range secrets {
		for _, form := range forms(secret) {
			r.forms[form] = true
		}
	}
	m := &matcher{}
	for form := range r.forms {
		m.forms = append(m.forms, []byte(form))
	}
	// At one place the replacer takes the first form that fits: the longest one
	// must be it, or the rest of the secret stays.
	slices.SortFunc(m.forms, func(a, b []byte) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), bytes.Compare(a, b))
	})
	var pairs []string
	for _, form := range m.forms {
		pairs = append(pairs, string(form), Redacted)
	}
	m.replacer = strings.NewReplacer(pairs...)
	r.ready.Store(m)
}

// Redact is s without secrets.
func (r *Redactor) Redact(s string) string {
	m := r.matcher()
	if m == nil || s == "" {
		return s
	}
	return m.replacer.Replace(s)
}

func (r *Redactor) matcher() *matcher {
	if r == nil {
		return nil
	}
	return r.ready.Load()
}

// cut returns the place nearest to at, at or before it, where line can be cut in
// two without cutting a secret; behind the secret when line starts with it.
func (r *Redactor) cut(line []byte, at int) int {
	m := r.matcher()
	if m == nil {
		return at
	}
	for moved := true; moved; {
		moved = false
		for _, form := range m.forms {
			from := max(0, at-len(form)+1)
			to := min(len(line), at+len(form)-1)
			if from >= to {
				continue
			}
			i := bytes.Index(line[from:to], form)
			if i < 0 {
				continue
			}
			if from+i == 0 {
				return len(form)
			}
			at, moved = from+i, true
		}
	}
	return at
}

// forms are the texts by which a secret may show.
func forms(secret string) []string {
	var all []string
	add := func(form string) {
		for len(form) > maxForm {
			all = append(all, form[:maxForm])
			form = form[maxForm:]
		}
		if len(form) >= minSecret {
			all = append(all, form)
		}
	}
	parts := []string{secret, strings.TrimSpace(secret)}
	if strings.Contains(secret, "\n") {
		for line := range strings.Lines(secret) {
			// The marker lines of a PEM block are no secret.
			if line = strings.TrimSpace(line); len(line) >= minLine && !strings.HasPrefix(line, "-----") {
				parts = append(parts, line)
			}
		}
	}
	for _, part := range parts {
		if len(part) < minSecret {
			continue
		}
		add(part)
		add(url.QueryEscape(part))
		add(url.PathEscape(part))
		add(hex.EncodeToString([]byte(part)))
		add(strings.ToUpper(hex.EncodeToString([]byte(part))))
		add(strings.ReplaceAll(part, "'", `'\''`))
		if quoted, err := json.Marshal(part); err == nil {
			add(string(quoted[1 : len(quoted)-1]))
		}
		for _, form := range base64Forms(part) {
			add(form)
		}
	}
	return all
}

// base64Forms are the texts that any base64 of something containing secret must
// contain, for each of the three ways in which it can fall on 3-byte groups.
func base64Forms(secret string) []string {
	var all []string
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		whole := len(padded) / 3 * 3
		// The first group mixes in what stands before the secret, the rest after
		// the last whole group what stands behind.
		from := 0
		if shift > 0 {
			from = 4
		}
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if text := enc.EncodeToString(padded[:whole]); len(text) > from+minLine {
				all = append(all, text[from:])
			}
		}
	}
	// By itself, to its last character.
	return append(all, base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawStdEncoding.EncodeToString([]byte(secret)),
		base64.URLEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)))
}
