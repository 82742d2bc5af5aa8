package examples

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// template is what these tests look at in an example.
type template struct {
	APIVersion string          `json:"apiVersion"`
	Name       string          `json:"name"`
	Identity   json.RawMessage `json:"identity"`
	Properties struct {
		Customize []struct {
			Name, Type, ScriptURI, SourceURI, Destination, SHA256Checksum string
			Inline                                                        []string
		}
		Distribute []struct{ Type, RunOutputName string }
	} `json:"properties"`
}

var (
	placeholder   = regexp.MustCompile(`<[A-Za-z]+>`)
	runOutputName = regexp.MustCompile(`^[A-Za-z0-9-_.]{1,64}$`)
)

// eachExample calls check with every example: its directory, bytes and content.
func eachExample(t *testing.T, check func(t *testing.T, dir string, raw []byte, example template)) {
	t.Helper()
	files, err := filepath.Glob("*/template.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 4 {
		t.Fatalf("only %d examples are here", len(files))
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(dir, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var example template
			if err := json.Unmarshal(raw, &example); err != nil {
				t.Fatal(err)
			}
			check(t, dir, raw, example)
		})
	}
}

func TestFilesAreThereWithTheirChecksums(t *testing.T) {
	eachExample(t, func(t *testing.T, dir string, _ []byte, example template) {
		used := map[string]bool{filepath.Join(dir, "template.json"): true}
		// What the README says to put before the build.
		if network := filepath.Join(dir, "network.json"); strings.Contains(string(readme(t)), "network put examples/"+network) {
			used[network] = true
		}
		for _, step := range example.Properties.Customize {
			uri := step.ScriptURI + step.SourceURI
			if uri == "" {
				continue
			}
			if !filepath.IsLocal(uri) {
				t.Errorf("%s: %s is not beside the template", step.Name, uri)
			}
			file := filepath.Join(dir, uri)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			used[file] = true
			sum := sha256.Sum256(content)
			if got := hex.EncodeToString(sum[:]); got != step.SHA256Checksum {
				t.Errorf("%s: the checksum of %s is %s, the template says %q", step.Name, uri, got, step.SHA256Checksum)
			}
			if step.Type == "File" && !strings.HasPrefix(step.Destination, "/tmp/") {
				t.Errorf("%s: a File step may write only below /tmp, not %s", step.Name, step.Destination)
			}
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !used[path] {
				t.Errorf("%s is used by no step", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestOutputsAreNamed(t *testing.T) {
	eachExample(t, func(t *testing.T, _ string, _ []byte, example template) {
		seen := map[string]bool{}
		for _, output := range example.Properties.Distribute {
			if !runOutputName.MatchString(output.RunOutputName) || seen[output.RunOutputName] {
				t.Errorf("runOutputName %q is malformed or used twice", output.RunOutputName)
			}
			seen[output.RunOutputName] = true
		}
		if len(seen) == 0 {
			t.Error("nothing is made")
		}
		if example.APIVersion != "2019-05-01-preview" && example.Identity == nil {
			t.Error("the identity is missing, which is required from 2020-02-14 on")
		}
	})
}

func readme(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheReadmeKnowsEveryExampleAndPlaceholder(t *testing.T) {
	readme := readme(t)
	eachExample(t, func(t *testing.T, dir string, raw []byte, example template) {
		if !bytes.Contains(readme, []byte("("+dir+"/template.json)")) {
			t.Error("the README does not list it")
		}
		version := example.APIVersion
		if version == "" {
			version = "--api-version 2024-02-01"
		}
		if !bytes.Contains(readme, []byte(version)) {
			t.Errorf("the README does not name %s", version)
		}
		for _, name := range placeholder.FindAll(raw, -1) {
			if !bytes.Contains(readme, append(append([]byte("`"), name...), '`')) {
				t.Errorf("the README does not explain %s", name)
			}
		}
	})
}

func TestScriptsStopAtTheFirstFailure(t *testing.T) {
	scripts, err := filepath.Glob("*/scripts/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts are here: %v", err)
	}
	for _, script := range scripts {
		content, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(content, []byte("#!/bin/sh\n")) || !bytes.Contains(content, []byte("\nset -eu\n")) {
			t.Errorf("%s does not start as a careful shell script", script)
		}
	}
}
