package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// recipe is the five steps that every builder runs: an upload of 1 MB, packages,
// a configuration file and a user, work for the processor, and tidying.
type recipe struct {
	dir     string
	scripts [5]string // of steps 2 to 5; the first is the upload
	network any       // vnetConfig of the build; nil for a network of its own
}

// newRecipe writes the files of the recipe to dir.
func newRecipe(dir string) (*recipe, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	payload := make([]byte, 1<<20)
	_, _ = rand.Read(payload) // never fails
	if err := os.WriteFile(filepath.Join(dir, "payload.bin"), payload, 0o644); err != nil {
		return nil, err
	}
	return &recipe{dir: dir, scripts: [5]string{
		"",
		"sudo install -m 0644 /tmp/payload.bin /usr/local/share/payload.bin\nsudo apt-get update -q\nsudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y jq\n",
		"echo 'mode = production' | sudo tee /etc/bench.conf\nsudo useradd -m worker\n",
		"head -c 20000000 /dev/zero | openssl enc -aes-128-ctr -pass pass:x -nosalt 2>/dev/null | gzip -9 | sha256sum | sudo tee /etc/bench.sum\n",
		"sudo apt-get clean\nsudo rm -rf /var/lib/apt/lists/*\nsync\n",
	}}, nil
}

// with is the recipe with another text of step n, counted from 1.
func (r *recipe) with(n int, text string) *recipe {
	changed := *r
	changed.scripts[n-1] = text
	return &changed
}

// also is the recipe with a line more in step n.
func (r *recipe) also(n int, line string) *recipe { return r.with(n, r.scripts[n-1]+line+"\n") }

// write writes the scripts to dir and returns their paths, "" for the upload's.
func (r *recipe) write(dir string) (paths [5]string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return paths, err
	}
	for i, text := range r.scripts {
		if text == "" {
			continue
		}
		paths[i] = filepath.Join(dir, fmt.Sprintf("step%d.sh", i+1))
		if err := os.WriteFile(paths[i], []byte("#!/bin/sh -e\n"+text), 0o755); err != nil {
			return paths, err
		}
	}
	return paths, nil
}

// template writes the recipe as an image template and returns its path.
func (r *recipe) template(name string) (string, error) {
	dir := filepath.Join(r.dir, name)
	scripts, err := r.write(dir)
	if err != nil {
		return "", err
	}
	type object = map[string]any
	steps := []object{{"type": "File", "name": "upload", "sourceUri": filepath.Join(r.dir, "payload.bin"), "destination": "/tmp/payload.bin"}}
	for i, path := range scripts[1:] {
		steps = append(steps, object{"type": "Shell", "name": fmt.Sprint("step ", i+2), "scriptUri": path})
	}
	profile := object{"vmSize": "Standard_B1ms"}
	if r.network != nil {
		profile["vnetConfig"] = r.network
	}
	const identity = "/subscriptions/<subscriptionID>/resourceGroups/bench/providers/Microsoft.ManagedIdentity/userAssignedIdentities/b"
	text, err := json.MarshalIndent(object{
		"apiVersion": "2022-07-01", "location": "westus2", "name": name,
		"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{identity: object{}}},
		"properties": object{
			"buildTimeoutInMinutes": 60,
			"vmProfile":             profile,
			"source":                object{"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
			"customize":             steps,
			"distribute": []object{{
				"type": "ManagedImage", "runOutputName": "image", "location": "westus2",
				"imageId": "/subscriptions/<subscriptionID>/resourceGroups/bench/providers/Microsoft.Compute/images/" + name,
			}},
		},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "template.json")
	return path, os.WriteFile(path, text, 0o644)
}
