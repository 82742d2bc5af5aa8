package architecture

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// checkPurity lists the effects of pure packages.
func (m *module) checkPurity() []string {
	var faults []string
	for _, p := range m.packages {
		if !isPure(p.path) {
			continue
		}
		for _, f := range p.files {
			if f.isTest() {
				continue
			}
			for imported := range f.imports() {
				if slices.Contains(effects, imported) {
					faults = append(faults, fmt.Sprintf("%s is pure and imports %s", f.name, imported))
				}
			}
			for imported, names := range effectCalls {
				m.eachUse(f, imported, names, func(n ast.Node, name string) {
					faults = append(faults, fmt.Sprintf("%s: pure code uses %s.%s", m.at(n), path.Base(imported), name))
				})
			}
		}
	}
	return faults
}

// checkNames lists packages whose name says nothing.
func (m *module) checkNames() []string {
	var faults []string
	for _, p := range m.packages {
		for _, name := range []string{path.Base(p.path), p.files[0].syntax.Name.Name} {
			if slices.Contains(vagueNames, strings.TrimSuffix(name, "_test")) {
				faults = append(faults, fmt.Sprintf("package %s: %q says nothing about what is in it", p.path, name))
				break
			}
		}
	}
	return faults
}

// checkLengths lists files that are too long.
func (m *module) checkLengths() []string {
	var faults []string
	for _, p := range m.packages {
		for _, f := range p.files {
			if f.lines > maxFileLines && !f.generated {
				faults = append(faults, fmt.Sprintf("%s has %d lines, more than %d: split it by what it is about", f.name, f.lines, maxFileLines))
			}
		}
	}
	return faults
}

// checkWaits lists calls of time.Sleep, tests included.
func (m *module) checkWaits() []string {
	var faults []string
	for _, p := range m.packages {
		for _, f := range p.files {
			m.eachUse(f, "time", []string{"Sleep"}, func(n ast.Node, _ string) {
				faults = append(faults, m.at(n)+": time.Sleep: wait for a signal or a deadline instead")
			})
		}
	}
	return faults
}

// checkSkips lists tests that skip themselves: a missing dependency must fail.
func (m *module) checkSkips() []string {
	var faults []string
	for _, p := range m.packages {
		for _, f := range p.files {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb", "rt"}, x.Name) {
					faults = append(faults, fmt.Sprintf("%s: %s.%s: a skipped test is never green", m.at(n), x.Name, s.Sel.Name))
				}
				return true
			})
		}
	}
	return faults
}

// checkTiers lists tests whose name and build tag disagree on whether they need
// a virtual machine: the tag vm belongs to files named _vm_test.go, and only to
// them.
func (m *module) checkTiers() []string {
	var faults []string
	for _, p := range m.packages {
		for _, f := range p.files {
			if !f.isTest() {
				continue
			}
			named, tagged := strings.HasSuffix(f.name, "_vm_test.go"), f.needsTag("vm")
			switch {
			case named && !tagged:
				faults = append(faults, f.name+" has no line \"//go:build vm\"")
			case tagged && !named:
				faults = append(faults, f.name+" needs the tag vm, so its name must end in _vm_test.go")
			}
		}
	}
	return faults
}

// eachUse calls found for every mention in f of one of names of the package
// imported.
func (m *module) eachUse(f *sourceFile, imported string, names []string, found func(n ast.Node, name string)) {
	local, ok := f.imports()[imported]
	if !ok {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == local && slices.Contains(names, s.Sel.Name) {
			found(n, s.Sel.Name)
		}
		return true
	})
}

// checkComments lists packages and exported identifiers without a comment.
func (m *module) checkComments() []string {
	var faults []string
	for _, p := range m.packages {
		documented, sources := false, 0
		for _, f := range p.files {
			if f.isTest() {
				continue
			}
			sources++
			documented = documented || f.syntax.Doc != nil
			if f.generated {
				continue
			}
			for _, d := range f.syntax.Decls {
				faults = append(faults, m.undocumented(d)...)
			}
		}
		if sources > 0 && !documented {
			faults = append(faults, fmt.Sprintf("package %s has no comment that says what it is for", p.path))
		}
	}
	return faults
}

// undocumented lists the exported identifiers of d without a comment.
func (m *module) undocumented(d ast.Decl) []string {
	var faults []string
	missing := func(n ast.Node, name string) {
		faults = append(faults, fmt.Sprintf("%s: exported %s has no comment", m.at(n), name))
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
			missing(d, d.Name.Name)
		}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT || d.Doc != nil && d.Tok != token.TYPE {
			return nil // a comment on a block of constants or variables covers it
		}
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
					missing(s, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Doc == nil && s.Comment == nil {
						missing(name, name.Name)
					}
				}
			}
		}
	}
	return faults
}

// receiver is the name of the type that d is a method of.
func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
