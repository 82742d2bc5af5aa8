package catalog

import (
	_ "embed"
	"sort"

	"sigs.k8s.io/yaml"

	"goldsmith/internal/arm"
)

//go:embed shipped.yaml
var shippedYAML []byte

// shippedImage is one disk of shipped.yaml, which several names share.
type shippedImage struct {
	Title     string         `json:"title"`
	Publisher string         `json:"publisher"`
	Offer     string         `json:"offer"`
	SKUs      map[string]int `json:"skus"`    // to generation
	Release   string         `json:"release"` // "A.B" of versions
	URL       string         `json:"url"`
	Digests   string         `json:"digests"` // URL of the digest list
	Recipe    string         `json:"recipe"`
}

// Shipped returns the entries that come with the program.
func Shipped() ([]Entry, error) {
	return parseShipped(shippedYAML)
}

func parseShipped(text []byte) ([]Entry, error) {
	var images []shippedImage
	if err := yaml.UnmarshalStrict(text, &images); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "the shipped catalog does not parse: %w", err)
	}
	var out []Entry
	taken := map[string]bool{}
	for _, i := range images {
		for sku, generation := range i.SKUs {
			e := Entry{
				URN:        URN{Publisher: i.Publisher, Offer: i.Offer, SKU: sku, Version: Latest},
				Title:      i.Title,
				Generation: generation,
				OS:         Linux,
				Source:     Source{URL: i.URL, DigestList: i.Digests, Release: i.Release, Recipe: i.Recipe},
				Shipped:    true,
			}
			if err := e.Check(); err != nil {
				return nil, arm.Errorf(arm.CodeInternal, "the shipped catalog is wrong: %w", err)
			}
			if !versionPart.MatchString(i.Release) || taken[e.Key()] {
				return nil, arm.Errorf(arm.CodeInternal, "the shipped catalog is wrong: %s has no release or is there twice", e.URN)
			}
			taken[e.Key()] = true
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key() < out[j].Key() })
	return out, nil
}
