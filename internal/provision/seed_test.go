package provision_test

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"
	"sigs.k8s.io/yaml"

	"goldsmith/internal/arm"
	"goldsmith/internal/provision"
)

func seed(t *testing.T, c provision.SeedConfig) map[string]string {
	t.Helper()
	image, err := provision.Seed(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := provision.Seed(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, again) {
		t.Error("two seeds of one configuration differ")
	}
	if len(image)%2048 != 0 {
		t.Errorf("%d bytes are no whole sectors", len(image))
	}
	disc, err := iso9660.OpenImage(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if label, err := disc.Label(); err != nil || label != provision.SeedLabel {
		t.Errorf("label %q, %v", label, err)
	}
	root, err := disc.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, child := range children {
		text, err := io.ReadAll(child.Reader())
		if err != nil {
			t.Fatal(err)
		}
		files[child.Name()] = string(text)
	}
	return files
}

func TestSeed(t *testing.T) {
	program := bytes.Repeat([]byte("\x7fELF"), 3000)
	files := seed(t, provision.SeedConfig{Helper: program, Files: map[string][]byte{"ovf-env.xml": []byte("<x/>")}})
	if files["helper"] != string(program) || files["ovf-env.xml"] != "<x/>" {
		t.Error("the seed does not have its files")
	}
	if !bytes.HasPrefix([]byte(files["user-data"]), []byte("#cloud-config\n")) {
		t.Errorf("user-data starts with %.20q", files["user-data"])
	}
	var got struct {
		Users   []map[string]any `json:"users"`
		Bootcmd []string         `json:"bootcmd"`
	}
	if err := yaml.Unmarshal([]byte(files["user-data"]), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{{"name": "build", "gecos": "Image build", "shell": "/bin/bash", "lock_passwd": true, "sudo": "ALL=(ALL) NOPASSWD:ALL"}}
	if diff := cmp.Diff(want, got.Users); diff != "" {
		t.Error(diff)
	}
	if len(got.Bootcmd) != 1 {
		t.Errorf("bootcmd %q", got.Bootcmd)
	}
	var network struct {
		Version   int                       `json:"version"`
		Ethernets map[string]map[string]any `json:"ethernets"`
	}
	if err := json.Unmarshal([]byte(files["network-config"]), &network); err != nil {
		t.Fatal(err)
	}
	if network.Version != 2 || network.Ethernets["all"]["dhcp-identifier"] != "mac" {
		t.Errorf("network-config %+v", network)
	}
}

func TestSeedRefuses(t *testing.T) {
	for name, c := range map[string]provision.SeedConfig{
		"no helper":  {},
		"taken name": {Helper: []byte("x"), Files: map[string][]byte{"user-data": nil}},
		"path":       {Helper: []byte("x"), Files: map[string][]byte{"a/b": nil}},
		"two dots":   {Helper: []byte("x"), Files: map[string][]byte{"a.b.c": nil}},
		"capitals":   {Helper: []byte("x"), Files: map[string][]byte{"README": nil}},
	} {
		if _, err := provision.Seed(c); arm.CodeOf(err) != arm.CodeInternal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
