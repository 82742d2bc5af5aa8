package accel

import (
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/arm"
)

// TestVersion: a program is asked once, and again when another takes its place.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	program, asked := filepath.Join(dir, "qemu"), filepath.Join(dir, "asked")
	install := func(version string) {
		t.Helper()
		next := program + ".new"
		text := "#!/bin/sh\necho x >> " + asked + "\necho " + version + "\n"
		if err := os.WriteFile(next, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, program); err != nil {
			t.Fatal(err)
		}
	}
	for i, version := range []string{"one", "two"} {
		install(version)
		for range 3 {
			got, err := Version(t.Context(), program)
			if err != nil || got != version+"\n" {
				t.Fatalf("Version = %q, %v; want %q", got, err, version)
			}
		}
		text, err := os.ReadFile(asked)
		if err != nil || len(text) != 2*(i+1) {
			t.Errorf("after version %q it was asked %d times, %v; want %d", version, len(text)/2, err, i+1)
		}
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if _, err := Version(t.Context(), program); !arm.IsCode(err, arm.CodeMissingTool) {
		t.Errorf("Version of a program that is gone: %v; want CodeMissingTool", err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Version(t.Context(), program); !arm.IsCode(err, arm.CodeMissingTool) {
		t.Errorf("Version of a program that fails: %v; want CodeMissingTool", err)
	}
}
