// Package catalog says what publisher:offer:sku:version means here: which disk
// image a platform image of a template is, where it comes from and which digest
// it must have.
//
// It ships entries for current cloud images and one that is made locally, and
// keeps what users add. Digest lists are fetched over HTTPS and checked against
// the content; their PGP signatures are not verified.
package catalog

import (
	"regexp"
	"strings"

	"goldsmith/internal/arm"
)

// Latest is the version that stands for the highest one there is.
const Latest = "latest"

// URN names a platform image. Its parts compare case-insensitively.
type URN struct {
	Publisher string `json:"publisher"`
	Offer     string `json:"offer"`
	SKU       string `json:"sku"`
	Version   string `json:"version"` // dotted numbers, or "latest"
}

var (
	namePart    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	versionPart = regexp.MustCompile(`^[0-9]{1,18}(\.[0-9]{1,18}){0,3}$`)
)

// ParseURN reads "publisher:offer:sku:version". The version is up to four
// numbers joined by dots, or "latest". The error is CodeUsage.
func ParseURN(s string) (URN, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return URN{}, arm.Errorf(arm.CodeUsage, "%q is not PUBLISHER:OFFER:SKU:VERSION", s)
	}
	u := URN{Publisher: parts[0], Offer: parts[1], SKU: parts[2], Version: parts[3]}
	return u, u.Check()
}

// Check returns CodeUsage when a part of u is not well-formed.
func (u URN) Check() error {
	for _, p := range []struct{ what, value string }{{"publisher", u.Publisher}, {"offer", u.Offer}, {"sku", u.SKU}} {
		if !namePart.MatchString(p.value) {
			return arm.Errorf(arm.CodeUsage, "%s %q of a platform image is not letters, digits, dots, dashes and underscores", p.what, p.value)
		}
	}
	if !u.IsLatest() && !versionPart.MatchString(u.Version) {
		return arm.Errorf(arm.CodeUsage, `version %q of a platform image is neither "latest" nor numbers joined by dots, such as 22.04.202609010`, u.Version)
	}
	return nil
}

// String is "publisher:offer:sku:version" as given.
func (u URN) String() string { return u.Image() + ":" + u.Version }

// Image is u without its version.
func (u URN) Image() string { return u.Publisher + ":" + u.Offer + ":" + u.SKU }

// Key is equal for URNs that mean the same.
func (u URN) Key() string { return strings.ToLower(u.String()) }

// IsLatest reports whether the version stands for the highest there is.
func (u URN) IsLatest() bool { return strings.EqualFold(u.Version, Latest) }

func (u URN) sameImage(o URN) bool { return strings.EqualFold(u.Image(), o.Image()) }

// CompareVersions orders versions as Azure does: number by number, so that
// 9.10.0 is above 9.9.0; a missing number is 0. It returns -1, 0 or 1.
func CompareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if c := compareNumbers(part(as, i), part(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func part(parts []string, i int) string {
	if i < len(parts) {
		return strings.TrimLeft(parts[i], "0")
	}
	return ""
}

// compareNumbers compares decimal numbers of any length without leading zeros.
func compareNumbers(a, b string) int {
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}
