package recipe

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"goldsmith/internal/arm"
)

// Source is one package archive as sources.list(5) has it: every URI with every
// suite and component.
type Source struct {
	URIs       []string
	Suites     []string
	Components []string
	SignedBy   string // absolute path of a keyring on the host, or ""
	Trusted    bool   // trusted=yes: unsigned archives of an air-gapped site
}

// maxSources bounds a file of APT sources.
const maxSources = 1 << 20

// ParseSources reads one-line entries (sources.list(5)). Other kinds than "deb",
// comments and options it does not know are passed over.
func ParseSources(text string) []Source {
	var all []Source
	scan := bufio.NewScanner(strings.NewReader(text))
	scan.Buffer(nil, maxSources)
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		rest, ok := cutWord(strings.TrimSpace(line), "deb")
		if !ok {
			continue
		}
		var s Source
		if after, ok := strings.CutPrefix(rest, "["); ok {
			options, tail, closed := strings.Cut(after, "]")
			if !closed {
				continue
			}
			for _, option := range strings.Fields(options) {
				name, value, _ := strings.Cut(option, "=")
				s.set(name, value)
			}
			rest = tail
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue // a flat archive has no components and no suite to match
		}
		s.URIs, s.Suites, s.Components = fields[:1], fields[1:2], fields[2:]
		all = append(all, s)
	}
	return all
}

// ParseSources822 reads deb822 stanzas (sources.list(5), "DEB822-STYLE FORMAT").
// Disabled stanzas and those with an inline key are passed over.
func ParseSources822(text string) []Source {
	var all []Source
	var s Source
	var deb, off bool
	field := ""
	end := func() {
		if deb && !off && len(s.URIs) > 0 && len(s.Suites) > 0 && len(s.Components) > 0 {
			all = append(all, s)
		}
		s, deb, off, field = Source{}, false, false, ""
	}
	scan := bufio.NewScanner(strings.NewReader(text))
	scan.Buffer(nil, maxSources)
	for scan.Scan() {
		line := scan.Text()
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case strings.TrimSpace(line) == "":
			end()
			continue
		}
		value := line
		if line[0] != ' ' && line[0] != '\t' {
			field, value, _ = strings.Cut(line, ":")
			field = strings.ToLower(strings.TrimSpace(field))
		}
		words := strings.Fields(value)
		switch field {
		case "types":
			deb = deb || slices.Contains(words, "deb")
		case "uris":
			s.URIs = append(s.URIs, words...)
		case "suites":
			s.Suites = append(s.Suites, words...)
		case "components":
			s.Components = append(s.Components, words...)
		case "enabled":
			off = len(words) == 1 && strings.EqualFold(words[0], "no")
		case "signed-by":
			if len(words) > 0 && !strings.HasPrefix(words[0], "/") {
				off = true // an inline key cannot be handed on as a file
			}
			fallthrough
		default:
			if len(words) > 0 {
				s.set(field, words[0])
			}
		}
	}
	end()
	return all
}

// set takes one option that matters outside the host.
func (s *Source) set(name, value string) {
	switch strings.ToLower(name) {
	case "signed-by":
		if first, _, _ := strings.Cut(value, ","); filepath.IsAbs(first) {
			s.SignedBy = first
		}
	case "trusted":
		s.Trusted = strings.EqualFold(value, "yes")
	}
}

// cutWord cuts word and the blanks after it from the front of s.
func cutWord(s, word string) (string, bool) {
	rest, ok := strings.CutPrefix(s, word)
	if !ok || rest == "" || !strings.ContainsRune(" \t[", rune(rest[0])) {
		return "", false
	}
	return strings.TrimSpace(rest), true
}

// HostSources are the one-line entries of the host's own archives for suite, its
// updates and its security fixes, read from the APT directory dir. It is empty
// on a host of another distribution or release: mmdebstrap then uses the public
// archive.
func HostSources(dir, suite string) ([]string, error) {
	files := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "cannot list the host's APT sources: %w", err)
		}
		files = append(files, more...)
	}
	var all []Source
	for _, name := range files {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // sources with credentials are often readable by root alone
		}
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "cannot read the host's APT sources: %w", err)
		}
		if strings.HasSuffix(name, ".sources") {
			all = append(all, ParseSources822(string(text))...)
		} else {
			all = append(all, ParseSources(string(text))...)
		}
	}
	return selectSuite(all, suite), nil
}

// selectSuite renders what of all serves suite as one-line entries in order,
// each once. Without an entry for the suite itself there is nothing to install
// from, and so nothing is returned.
func selectSuite(all []Source, suite string) []string {
	wanted := []string{suite, suite + "-updates", suite + "-security"}
	var lines []string
	base := false
	for _, s := range all {
		if !slices.Contains(s.Components, "main") {
			continue // the archive of one vendor, not of the distribution
		}
		for _, uri := range s.URIs {
			for _, have := range s.Suites {
				if !slices.Contains(wanted, have) || !plainURI(uri) {
					continue
				}
				line := "deb " + s.options() + uri + " " + have + " " + strings.Join(s.Components, " ")
				if !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
				base = base || have == suite
			}
		}
	}
	if !base {
		return nil
	}
	return lines
}

// plainURI reports whether the guest can use the URI as well as the host.
func plainURI(uri string) bool {
	return strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
}

// options renders the bracket of a one-line entry with a blank after it.
func (s Source) options() string {
	var options []string
	if s.SignedBy != "" {
		options = append(options, "signed-by="+s.SignedBy)
	}
	if s.Trusted {
		options = append(options, "trusted=yes")
	}
	if len(options) == 0 {
		return ""
	}
	return "[" + strings.Join(options, " ") + "] "
}

// keyrings are the keyrings that lines name outside the distribution's own
// package, which the image needs as files.
func keyrings(lines []string) []string {
	var names []string
	for _, line := range lines {
		for _, s := range ParseSources(line) {
			if s.SignedBy != "" && !strings.HasPrefix(s.SignedBy, "/usr/share/keyrings/debian-archive-") && !slices.Contains(names, s.SignedBy) {
				names = append(names, s.SignedBy)
			}
		}
	}
	return names
}
