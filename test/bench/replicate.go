package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The new file data of a version whose replication is measured.
const addedMB = 50

// replicated publishes a version to a second location with a store of its own, and
// then one that adds file data which does not pack: only that is to be sent.
func (b *bench) replicated(ctx context.Context) error {
	there := filepath.Join(b.work, "location")
	var sent []float64
	for _, line := range []string{"true", fmt.Sprintf("sudo dd if=/dev/urandom of=/var/lib/added bs=1M count=%d status=none", addedMB)} {
		path, err := replicatedTemplate(filepath.Join(b.work, "replicated.json"), line)
		if err != nil {
			return err
		}
		before, err := stored(there)
		if err != nil {
			return err
		}
		if _, err := build(ctx, b.binary, b.datadir, path, "--no-cache", "--location", "eastus="+there); err != nil {
			return err
		}
		after, err := stored(there)
		if err != nil {
			return err
		}
		sent = append(sent, (after-before)/1e6)
	}
	const section = "R replication, chunks of 256 KiB"
	b.report.join(section, "first version sent", "MB", "", sent[0])
	b.report.join(section, fmt.Sprintf("version with %d MiB of new file data sent", addedMB), "MB", "to reach: at most 60 MB", sent[1])
	return nil
}

// replicatedTemplate writes a template of one step that is distributed to two
// locations.
func replicatedTemplate(path, line string) (string, error) {
	type object = map[string]any
	const group = "/subscriptions/<subscriptionID>/resourceGroups/bench/providers/"
	text, err := json.Marshal(object{
		"apiVersion": "2022-07-01", "location": "westus2", "name": "replicated",
		"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{group + "Microsoft.ManagedIdentity/userAssignedIdentities/b": object{}}},
		"properties": object{
			"vmProfile": object{"vmSize": "Standard_B1ms"},
			"source":    object{"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
			"customize": []object{{"type": "Shell", "name": "add", "inline": []string{line}}},
			"distribute": []object{{
				"type": "SharedImage", "runOutputName": "version", "replicationRegions": []string{"westus2", "eastus"},
				"galleryImageId": group + "Microsoft.Compute/galleries/bench/images/replicated",
			}},
		},
	})
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, text, 0o600)
}

// stored is what the files below a directory take of its disk, in bytes; 0 when it
// is not there.
func stored(dir string) (bytes float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512
		return nil
	})
	if os.IsNotExist(err) {
		return 0, nil
	}
	return bytes, err
}
