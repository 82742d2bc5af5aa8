package provision

import (
	"io/fs"

	"goldsmith/internal/provision/residue"
)

// Residue lists what a build by user left in a finished root file system, as
// paths below it; nothing for a clean image.
func Residue(root fs.FS, user string) ([]string, error) { return residue.Find(root, user) }

// ResiduePatterns are the paths, as io/fs.Glob patterns below the root, that must
// not exist in a finished image.
func ResiduePatterns(user string) []string { return residue.Patterns(user) }
