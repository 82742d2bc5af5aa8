// Package architecture holds the rules that keep the program in rooms, and the
// tests that enforce them: imports go only down a list, pure rooms have no
// effects, and the source keeps its form.
package architecture

import (
	"slices"
	"strings"
)

// room is a package with the packages below its directory.
type room struct {
	path string
	pure bool // no input, output, clock or randomness
}

// rooms are listed from the top of the house to its bottom. A package may
// import its own room and the rooms below. This list is written by hand; which
// of the imports that it allows are really there is in edges.txt.
var rooms = []room{
	{path: "cmd"},
	{path: "test"},
	{path: "bench"},
	{path: "examples"},
	{path: "internal/cli"},
	{path: "internal/server"},
	{path: "internal/portal"},
	{path: "internal/armapi"},
	{path: "internal/blobapi"},
	{path: "internal/identity"},
	{path: "internal/build"},
	{path: "internal/distribute"},
	{path: "internal/authorization"},
	{path: "internal/customize"},
	{path: "internal/provision"},
	{path: "internal/guest"},
	{path: "internal/network"},
	{path: "internal/proxyvm"},
	{path: "internal/catalog"},
	{path: "internal/image"},
	{path: "internal/artifact"},
	{path: "internal/blob"},
	{path: "internal/queue"},
	{path: "internal/store"},
	{path: "internal/preflight", pure: true},
	{path: "internal/plan", pure: true},
	{path: "internal/imagetemplate", pure: true},
	{path: "internal/armtemplate", pure: true},
	{path: "internal/jsontree", pure: true},
	{path: "internal/vnet", pure: true},
	{path: "internal/nsg", pure: true},
	{path: "internal/rbac", pure: true},
	{path: "internal/suggest", pure: true},
	{path: "internal/machine"}, // below plan, which fixes the shape of one
	{path: "internal/layer"},
	{path: "internal/image/disk"}, // below layer, whose manifests hold extents
	{path: "internal/audit"},
	{path: "internal/document"},
	{path: "internal/run"},
	{path: "internal/resource"},
	{path: "internal/event"},
	{path: "internal/arm", pure: true},
	{path: "internal/conformance"}, // for tests
}

// pureInside are pure packages within rooms that are not.
var pureInside = []string{"internal/image/vhd"}

// roomOf is the index of the room that holds the package at path, the longest
// match; -1 for none.
func roomOf(path string) int {
	best := -1
	for i, r := range rooms {
		if (path == r.path || strings.HasPrefix(path, r.path+"/")) && (best < 0 || len(r.path) > len(rooms[best].path)) {
			best = i
		}
	}
	return best
}

// isPure reports whether the package at path must have no effects.
func isPure(path string) bool {
	if slices.ContainsFunc(pureInside, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }) {
		return true
	}
	i := roomOf(path)
	return i >= 0 && rooms[i].pure
}

// effects are imports that a pure package must not have.
var effects = []string{
	"os", "os/exec", "os/signal", "os/user", "net", "net/http", "net/rpc", "io/ioutil", "log", "log/slog", "syscall",
	"math/rand", "math/rand/v2", "crypto/rand", "database/sql", "plugin",
	"golang.org/x/sys/unix", "github.com/gofrs/flock", "github.com/google/renameio/v2",
}

// effectCalls are functions that a pure package must not name, by import path:
// those that read the clock, wait or make randomness.
var effectCalls = map[string][]string{
	"time":                   {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"github.com/google/uuid": {"New", "NewString", "NewRandom", "NewUUID", "NewV6", "NewV7"},
	"path/filepath":          {"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"},
}

// vagueNames are names that say nothing about what a package is for.
var vagueNames = []string{"util", "utils", "common", "helpers", "model", "models", "types", "misc"}

// maxFileLines is the longest a hand-written source file may be.
const maxFileLines = 500
