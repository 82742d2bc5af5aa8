// Package vm tests whole builds: the real binary, real virtual machines and real
// disk images, one test per class of thing that can go right or wrong. Every
// combination is tried on the fake machine, in internal/build.
//
// The tests run under the build tag vm and share a data directory that stays
// between runs, below the user's cache directory, so that the base image is made
// and booted once. What they make beyond that they delete.
package vm
