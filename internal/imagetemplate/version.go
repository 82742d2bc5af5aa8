package imagetemplate

import (
	"slices"
	"strings"
)

// version is an API version: an index into versions, so that they compare by
// age.
type version int

const (
	v2018Feb version = iota
	v2019Feb
	v2019May
	v2020Feb
	v2021Oct
	v2022Feb
	v2022Jul
	v2023Jul
	v2024Feb
	v2025Oct
)

var versions = []string{
	"2018-02-01-preview", "2019-02-01-preview", "2019-05-01-preview", "2020-02-14", "2021-10-01",
	"2022-02-14", "2022-07-01", "2023-07-01", "2024-02-01", "2025-10-01",
}

// Versions lists the API versions that Parse knows, oldest first.
func Versions() []string { return slices.Clone(versions) }

// parseVersion finds a version by name, in any case.
func parseVersion(name string) (version, bool) {
	i := slices.IndexFunc(versions, func(v string) bool { return strings.EqualFold(v, name) })
	return version(i), i >= 0
}

func (v version) String() string { return versions[v] }

// strict reports whether names and values are case-sensitive and unknown fields
// are refused.
func (v version) strict() bool { return v >= v2024Feb }

// goPackage is the package that the real service's messages name from 2024 on.
func (v version) goPackage() string { return "v" + strings.ReplaceAll(versions[v], "-", "_") }

// same compares names and values the way the version does.
func (v version) same(a, b string) bool {
	return a == b || !v.strict() && strings.EqualFold(a, b)
}

// span is a range of versions, both ends included.
type span struct{ from, until version }

// always is every version, never is none (the zero span would hold the oldest).
var (
	always = span{v2018Feb, v2025Oct}
	never  = span{1, 0}
)

func (s span) has(v version) bool { return s.from <= v && v <= s.until }

func since(v version) span { return span{v, v2025Oct} }
func until(v version) span { return span{v2018Feb, v} }
