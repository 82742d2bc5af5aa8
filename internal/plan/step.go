package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
)

// newStep fixes customizer or validation c, the number-th of its list.
func newStep(number int, c imagetemplate.Customizer, in Inputs) (Step, []*arm.Error) {
	var problems []*arm.Error
	fail := func(code arm.Code, format string, args ...any) {
		problems = append(problems, arm.Errorf(code, format, args...).At(c.Pointer))
	}
	s := Step{
		Number:      number,
		Name:        c.Name,
		Type:        c.Type,
		Pointer:     c.Pointer,
		Inline:      c.Inline,
		Destination: c.Destination,
	}
	if s.Name == "" {
		s.Name = fmt.Sprintf("%s %d", c.Type, number)
	}
	if c.Type.Windows() && in.Base.OS != Windows {
		fail(arm.CodeValidationFailed, "a step of type %s runs only on Windows, and the source %s is a %s image", c.Type, in.Base.Origin, in.Base.OS)
		return s, problems
	}
	if c.Type == imagetemplate.File {
		if err := imagetemplate.CheckDestination(c.Destination, in.Base.OS == Windows); err != nil {
			fail(arm.CodeValidationFailed, "%w", err)
		}
	}
	if uri := artifactURI(c); uri != "" {
		a, ok := in.Artifacts[uri]
		if !ok {
			fail(arm.CodeInternal, "%s was not frozen at submission", uri)
			return s, problems
		}
		s.Artifact = &a
	}
	if c.Type == imagetemplate.Shell {
		text := strings.Join(s.Inline, "\n")
		if s.Artifact != nil {
			text = in.Texts[s.Artifact.SHA256]
		}
		s.Values = used(in.Values, text)
	}
	return s, problems
}

// artifactURI is the URI that customizer c reads, "" for none.
func artifactURI(c imagetemplate.Customizer) string {
	if c.ScriptURI != "" {
		return c.ScriptURI
	}
	return c.SourceURI
}

// ArtifactRef is one URI of a template with what is known of its content.
type ArtifactRef struct {
	URI     string
	SHA256  string // lower-case hex the template demands, "" for none
	Pointer string // JSON pointer of the step that reads it
}

// Artifacts lists what must be fetched and frozen at submission, in order, each
// step's own entry.
func Artifacts(t *imagetemplate.Template) []ArtifactRef {
	var refs []ArtifactRef
	steps := t.Customize
	if t.Validate != nil {
		steps = slices.Concat(steps, t.Validate.InVM)
	}
	for _, c := range steps {
		if uri := artifactURI(c); uri != "" {
			refs = append(refs, ArtifactRef{URI: uri, SHA256: c.SHA256, Pointer: c.Pointer})
		}
	}
	return refs
}

// FileName is the last path element of the artifact's URI, without its query;
// "file" when it has none.
func (s Step) FileName() string {
	if s.Artifact == nil {
		return "file"
	}
	u := s.Artifact.URI
	if i := strings.IndexAny(u, "?#"); i >= 0 {
		u = u[:i]
	}
	if name := path.Base(u); name != "." && name != "/" {
		return name
	}
	return "file"
}
