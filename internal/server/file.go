package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"goldsmith/internal/arm"
	"goldsmith/internal/suggest"
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// ReadFile reads the settings in a file. The error lists everything that is
// wrong with it, a line each, as FILE:LINE: TEXT.
func ReadFile(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return Settings{}, arm.Errorf(arm.CodeUsage, "read the configuration: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return Settings{}, arm.Errorf(arm.CodeUsage, "read the configuration: %w", err)
	}
	return Parse(path, body)
}

// Parse reads settings; see ReadFile.
func Parse(name string, body []byte) (Settings, error) {
	var s Settings
	if len(body) > maxConfigBytes {
		return s, arm.Errorf(arm.CodeUsage, "%s: a configuration has at most %d bytes", name, maxConfigBytes)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(body, &root); err != nil {
		return s, faults(name, []string{located(err.Error())})
	}
	var lines []string
	d := yaml.NewDecoder(bytes.NewReader(body))
	d.KnownFields(true)
	err := d.Decode(&s)
	var wrong *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF): // an empty file: all defaults
		return s, nil
	case errors.As(err, &wrong):
		for _, e := range wrong.Errors {
			lines = append(lines, located(e))
		}
	case err != nil:
		lines = append(lines, located(err.Error()))
	}
	for _, f := range s.check() {
		lines = append(lines, fmt.Sprintf("%d: %s: %s", lineOf(&root, f.path), f.path, f.text))
	}
	if len(lines) > 0 {
		return s, faults(name, lines)
	}
	return s, nil
}

// faults is an error of one or more lines of a file.
func faults(name string, lines []string) error {
	for i, l := range lines {
		lines[i] = name + ":" + l
	}
	return arm.Errorf(arm.CodeUsage, "%s", strings.Join(lines, "\n"))
}

var (
	lineForm    = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)
	unknownForm = regexp.MustCompile(`field (\S+) not found in type (\S+)`)
	typeForm    = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `(.*)`)? into (\\S+)")
)

// located puts a message of the YAML reader into the form "LINE: TEXT", in
// words about settings.
func located(message string) string {
	message = lineForm.ReplaceAllString(message, "$1: ")
	if m := unknownForm.FindStringSubmatch(message); m != nil {
		text := fmt.Sprintf("there is no setting %q", m[1])
		if near := suggest.Nearest(m[1], settingNames(), 1); len(near) > 0 {
			text += "; did you mean " + near[0] + "?"
		}
		message = strings.Replace(message, m[0], text, 1)
	}
	message = typeForm.ReplaceAllStringFunc(message, func(s string) string {
		m := typeForm.FindStringSubmatch(s)
		return fmt.Sprintf("%s is not what is expected here: %s", strings.TrimSpace(m[1]+" "+m[2]), expected(m[3]))
	})
	return strings.TrimPrefix(message, "yaml: ")
}

// expected is a Go type in words.
func expected(typ string) string {
	switch {
	case strings.HasPrefix(typ, "[]"):
		return "a list"
	case typ == "int":
		return "a whole number"
	case typ == "bool":
		return "true or false"
	case typ == "string":
		return "text"
	}
	return "settings of its own"
}

// settingNames are the names of all settings.
func settingNames() []string {
	var names []string
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			names = append(names, name)
			walk(t.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Settings]())
	return names
}

// lineOf is the line of the setting at a path such as "issuers.0", of its
// nearest parent when it is not there.
func lineOf(node *yaml.Node, path string) int {
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	line := max(node.Line, 1)
	for part := range strings.SplitSeq(path, ".") {
		var next *yaml.Node
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == part {
					next, line = node.Content[i+1], node.Content[i].Line
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(part); err == nil && i < len(node.Content) {
				next, line = node.Content[i], node.Content[i].Line
			}
		}
		if next == nil {
			break
		}
		node = next
	}
	return line
}

func itoa(i int) string { return strconv.Itoa(i) }
