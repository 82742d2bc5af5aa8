package architecture

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the source of a Go module, parsed without regard to build tags.
type module struct {
	path     string // module path
	fset     *token.FileSet
	packages []*sourcePackage // by directory
}

// sourcePackage is one directory of Go files.
type sourcePackage struct {
	path  string // within the module, with slashes; "." for its root
	files []*sourceFile
}

// sourceFile is one Go file.
type sourceFile struct {
	name      string // within the module, with slashes
	lines     int
	generated bool
	syntax    *ast.File
}

// isTest reports whether f is a _test.go file.
func (f *sourceFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// needsTag reports whether f is left out of a build without tag.
func (f *sourceFile) needsTag(tag string) bool {
	for _, group := range f.syntax.Comments {
		if group.Pos() > f.syntax.Package {
			break
		}
		for _, c := range group.List {
			expr, err := constraint.Parse(c.Text)
			if err != nil || !constraint.IsGoBuild(c.Text) {
				continue
			}
			return !expr.Eval(func(t string) bool { return t != tag })
		}
	}
	return false
}

// imports are the import paths of f, with their names in the file.
func (f *sourceFile) imports() map[string]string {
	imports := map[string]string{}
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has let nothing else through
		}
		imports[p] = path.Base(p)
		if spec.Name != nil {
			imports[p] = spec.Name.Name
		}
	}
	return imports
}

// findRoot is the directory at or above dir that holds go.mod.
func findRoot(dir string) (string, error) {
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod in this directory or above it")
		}
		dir = parent
	}
}

// parseModule parses every Go file of the module at root, except those that the
// go command leaves out: under testdata, vendor and directories that start with
// a dot or an underscore.
func parseModule(root string) (*module, error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	m := &module{path: modulePath(mod), fset: token.NewFileSet()}
	byDir := map[string]*sourcePackage{}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || name[0] == '.' || name[0] == '_' {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		f, err := m.parse(file, filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		dir := path.Dir(f.name)
		if byDir[dir] == nil {
			byDir[dir] = &sourcePackage{path: dir}
			m.packages = append(m.packages, byDir[dir])
		}
		byDir[dir].files = append(byDir[dir].files, f)
		return nil
	})
	slices.SortFunc(m.packages, func(a, b *sourcePackage) int { return strings.Compare(a.path, b.path) })
	return m, err
}

// parse reads the file, called name within the module.
func (m *module) parse(file, name string) (*sourceFile, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	syntax, err := parser.ParseFile(m.fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &sourceFile{
		name:      name,
		lines:     bytes.Count(content, []byte("\n")),
		generated: ast.IsGenerated(syntax),
		syntax:    syntax,
	}, nil
}

// modulePath is the path that a go.mod declares.
func modulePath(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if p, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(p)
		}
	}
	return ""
}

// at is "file:line" of a node.
func (m *module) at(n ast.Node) string {
	p := m.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// edges are the imports between packages of the module, tests aside: package
// to packages, both within the module, sorted.
func (m *module) edges() map[string][]string {
	edges := map[string][]string{}
	for _, p := range m.packages {
		for _, f := range p.files {
			if f.isTest() {
				continue
			}
			targets := edges[p.path]
			for imported := range f.imports() {
				if target, ok := strings.CutPrefix(imported, m.path+"/"); ok && !slices.Contains(targets, target) {
					targets = append(targets, target)
				}
			}
			slices.Sort(targets)
			edges[p.path] = targets
		}
	}
	return edges
}
