package provision

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kdomanski/iso9660"

	"goldsmith/internal/arm"
	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

// BuildUser is the user that a build's commands run as: it has sudo, no password,
// and exists for the time of the build.
const BuildUser = protocol.BuildUser

// SeedLabel is the volume label by which cloud-init finds the seed (NoCloud).
const SeedLabel = "CIDATA"

// SeedConfig is what a seed is made of. The same config gives the same bytes.
type SeedConfig struct {
	// Helper is the guest helper, from HelperBinary.
	Helper []byte
	// User is the build user's name; "" for BuildUser.
	User string
	// Files are further files of the seed by name, such as ovf-env.xml for an
	// image whose only agent is waagent. Names are of lower-case letters, digits,
	// dots, dashes and underscores.
	Files map[string][]byte
}

// seedHelper is the helper's name on the seed.
const seedHelper = "helper"

// Seed makes the first-boot data of a build VM: a raw ISO 9660 image, found by
// cloud-init's NoCloud data source. It makes the build user, configures whatever
// virtio network card will be plugged, and installs the helper before the network
// is up. Nothing in it is secret or different between builds: those things come
// through the helper.
func Seed(c SeedConfig) (image []byte, err error) {
	if len(c.Helper) == 0 {
		return nil, arm.Errorf(arm.CodeInternal, "the seed has no guest helper")
	}
	files, err := seedFiles(c)
	if err != nil {
		return nil, err
	}
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "cannot make the seed: %w", err)
	}
	defer func() {
		if e := w.Cleanup(); e != nil && err == nil {
			image, err = nil, arm.Errorf(arm.CodeInternal, "cannot remove the seed's scratch files: %w", e)
		}
	}()
	for name, content := range files {
		if err := w.AddFile(bytes.NewReader(content), name); err != nil {
			return nil, seedError(err)
		}
	}
	var out bytes.Buffer
	if err := w.WriteTo(&out, SeedLabel); err != nil {
		return nil, seedError(err)
	}
	return undated(out.Bytes())
}

// seedFiles are the files of a seed by name.
func seedFiles(c SeedConfig) (map[string][]byte, error) {
	if c.User == "" {
		c.User = BuildUser
	}
	files := map[string][]byte{
		"meta-data":      mustJSON(map[string]string{"instance-id": "goldsmith-build", "dsmode": "local"}),
		"user-data":      append([]byte("#cloud-config\n"), mustJSON(userData(c.User))...),
		"vendor-data":    nil,
		"network-config": mustJSON(networkConfig()),
		seedHelper:       c.Helper,
	}
	for name, content := range c.Files {
		if _, taken := files[name]; taken || !plainFile(name) {
			return nil, arm.Errorf(arm.CodeInternal, "%q cannot be a file of the seed", name)
		}
		files[name] = content
	}
	return files, nil
}

// SeedDigest names what the seed with this program's helper holds, in lower-case
// hexadecimal digits, without unpacking the helper or making the seed. It fails as
// HelperBinary does when there is no helper.
func SeedDigest() (string, error) { return seedDigest(bin) }

func seedDigest(programs fs.FS) (string, error) {
	packed, err := packedHelper(programs)
	if err != nil {
		return "", err
	}
	files, err := seedFiles(SeedConfig{Helper: packed})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// seedError codes an error of the ISO writer, which stages files on disk.
func seedError(err error) error {
	if os.IsPermission(err) {
		return arm.Errorf(arm.CodeInternal, "cannot make the seed in the temporary directory: %w", err)
	}
	return arm.Errorf(arm.CodeInternal, "cannot make the seed: %w", err)
}

// plainFile reports whether the ISO writer keeps a name as it is.
func plainFile(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	return name != "" && len(name) <= 24 && strings.Count(name, ".") <= 1 && strings.Trim(name, allowed) == "" && name[0] != '.'
}

// undated sets the times in the volume descriptor, the only bytes of the image
// that depend on when it was made, to "not specified" (ECMA-119, 8.4.26).
func undated(image []byte) ([]byte, error) {
	const descriptor, first, size, count = 16 * 2048, 813, 17, 4
	if len(image) < descriptor+2048 || string(image[descriptor+1:descriptor+6]) != "CD001" {
		return nil, arm.Errorf(arm.CodeInternal, "the seed has no volume descriptor")
	}
	for i := range count {
		at := descriptor + first + i*size
		copy(image[at:], strings.Repeat("0", size-1))
		image[at+size-1] = 0
	}
	return image, nil
}

// userData is cloud-init's configuration for the time of the build. The lists of
// modules leave out everything that a build does not need: each would leave
// traces in the image and costs seconds without hardware acceleration.
func userData(user string) map[string]any {
	return map[string]any{
		"users": []any{map[string]any{
			"name": user, "gecos": "Image build", "shell": "/bin/bash",
			"lock_passwd": true, "sudo": "ALL=(ALL) NOPASSWD:ALL",
		}},
		"preserve_hostname": true,
		"ssh_genkeytypes":   []string{"ed25519"},
		"ssh_deletekeys":    true,
		// The seed is unplugged before the first command: a reboot in the middle of
		// a build must not look for another data source.
		"manual_cache_clean":   true,
		"cloud_init_modules":   []string{"bootcmd", "growpart", "resizefs", "users-groups", "ssh"},
		"cloud_config_modules": []string{},
		"cloud_final_modules":  []string{},
		"bootcmd":              []string{installCommand},
	}
}

// installCommand runs at every boot of the build, early in the first stage.
var installCommand = fmt.Sprintf(`set -e
seed=/run/goldsmith-seed
if [ ! -e /%[1]s ]; then
  mkdir -p $seed
  mount -t iso9660 -o ro "$(blkid -L %[2]s)" $seed
  mkdir -p "$(dirname /%[1]s)"
  cp $seed/%[3]s /%[1]s
  chmod 0755 /%[1]s
  umount $seed
  rmdir $seed
  /%[1]s install
fi
`, residue.HelperFile, SeedLabel, seedHelper)

// networkConfig (version 2) configures every virtio card by DHCP, whatever its
// address, and identifies it to the server by that address alone: the machine id
// is the same in every guest restored from one state. Nothing waits for it.
func networkConfig() map[string]any {
	return map[string]any{
		"version": 2,
		"ethernets": map[string]any{
			"all": map[string]any{
				"match": map[string]string{"driver": "virtio_net"},
				"dhcp4": true, "dhcp6": false, "dhcp-identifier": "mac", "optional": true,
			},
		},
	}
}

// mustJSON encodes what is made of strings, lists and maps, which cannot fail.
// JSON is YAML, and its maps come out in order.
func mustJSON(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return append(text, '\n')
}
