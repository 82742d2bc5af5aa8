package recipe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// schema rises when the code that makes disks changes what is on them.
const schema = 1

// Digest names what Make would make as far as it can be known beforehand: the
// recipe, the host's APT sources for it and the tools that write the file
// systems. Package versions are not in it, as they are only known afterwards; a
// cache decides by age when to look for new ones. It is lower-case hex.
func (r *Recipe) Digest(ctx context.Context, o Options) (string, error) {
	if o.APT == "" {
		o.APT = "/etc/apt"
	}
	tools, err := findTools()
	if err != nil {
		return "", err
	}
	sources, err := HostSources(o.APT, r.suite)
	if err != nil {
		return "", err
	}
	versions := map[string]string{}
	for name, args := range map[string][]string{
		"mmdebstrap": {"--version"}, "mke2fs": {"-V"}, "mkfs.vfat": {"--help"}, "sfdisk": {"--version"},
	} {
		var first string
		c := command{path: tools[name], args: args, line: func(line string) {
			if first == "" {
				first = line
			}
		}}
		if err := c.run(ctx); err != nil {
			return "", arm.Errorf(arm.CodeMissingTool, "cannot ask %s for its version: %w", tools[name], err)
		}
		versions[name] = first
	}
	type overlayFile struct {
		Name, Text, Link string
		Mode             int64
	}
	overlay := make([]overlayFile, 0, len(r.overlay))
	for _, f := range r.overlay {
		overlay = append(overlay, overlayFile{f.name, f.text, f.link, f.mode})
	}
	text, err := json.Marshal(map[string]any{
		"schema": schema, "name": r.name, "suite": r.suite, "packages": r.packages, "overlay": overlay,
		"script": r.script, "unpack": rootScript, "partitions": r.partitionScript(), "ext4": mke2fsConf,
		"sources": strings.Join(sources, "\n"), "tools": versions,
	})
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "cannot encode the recipe: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
