// Package conformance finds files that others published and tests hold the
// program against: templates, recorded requests, definitions and documents. They
// are read where they lie, in the directory that $GOLDSMITH_CONFORMANCE names.
package conformance

import (
	"os"
	"path/filepath"
	"testing"
)

// Path is the path of a file or directory below the directory; "" for itself.
func Path(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("GOLDSMITH_CONFORMANCE")
	if root == "" {
		t.Fatal("GOLDSMITH_CONFORMANCE is not set: it must name the directory of published files")
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// Read reads a file below the directory.
func Read(t testing.TB, parts ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(Path(t, parts...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Glob lists the files below the directory that match a pattern, as Read takes
// them; at least one.
func Glob(t testing.TB, pattern ...string) []string {
	t.Helper()
	files, err := filepath.Glob(Path(t, pattern...))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no published file matches %s", filepath.Join(pattern...))
	}
	for i, f := range files {
		if files[i], err = filepath.Rel(Path(t), f); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
