package preflight

import (
	"fmt"
	"strings"
)

// Text is the report for people: what is in the way, and what grants it.
func (r Report) Text() string {
	var b strings.Builder
	if r.OK() {
		fmt.Fprintf(&b, "Nothing is missing: all %s are granted.\n", count(len(r.Needs), "right"))
		return b.String()
	}
	for _, f := range r.Findings {
		if f.Need == nil {
			fmt.Fprintf(&b, "%s\n", f.Message)
			if f.Pointer != "" {
				fmt.Fprintf(&b, "  field  %s\n", f.Pointer)
			}
			b.WriteByte('\n')
		}
	}
	missing := r.Missing()
	if len(missing) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "%d of %s missing:\n", len(missing), are(len(r.Needs), "right"))
	for i, n := range missing {
		fmt.Fprintf(&b, "\n%d. %s\n", i+1, n.Action)
		fmt.Fprintf(&b, "   at     %s\n   for    %s\n   to     %s\n", n.Scope, n.Principal, n.Why)
		if n.Pointer != "" {
			fmt.Fprintf(&b, "   field  %s\n", n.Pointer)
		}
	}
	b.WriteString("\nThese roles grant what is missing:\n\n")
	b.WriteString(GrantsText(Grants(missing)))
	return b.String()
}

// GrantsText is grants for people: role definitions, and the commands to run.
func GrantsText(grants []Grant) string {
	var b strings.Builder
	for i, g := range grants {
		if i > 0 {
			b.WriteByte('\n')
		}
		if g.Role != nil {
			fmt.Fprintf(&b, "%s:\n%s", g.File, g.Role.JSON())
		}
		for _, line := range g.Commands() {
			fmt.Fprintln(&b, line)
		}
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}
