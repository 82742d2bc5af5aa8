package imagetemplate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDistributorRules(t *testing.T) {
	const at = "/properties/distribute/0"
	vhd := func(version, rest string) draft {
		return draft{version: version, distribute: `{"type": "VHD", "runOutputName": "o"` + rest + `}`}
	}
	gallery := func(version, rest string) draft {
		return draft{version: version, distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `"` + rest + `}`}
	}
	runRules(t, []ruleCase{
		{"none", draft{version: "2020-02-14", distribute: " "}, []want{failure("/properties", "'ImageTemplate.properties': Missing field 'distribute'")}},
		{"no type", draft{version: "2020-02-14", distribute: `{"runOutputName": "o"}`}, []want{failure(at, "'ImageTemplate.properties.distribute[0]': Missing field 'type'")}},
		{"VHD before its time", vhd("2018-02-01-preview", ""), []want{failure(at+"/type", "it came with API version 2019-02-01-preview")}},
		{"no name", draft{version: "2020-02-14", distribute: `{"type": "VHD"}`}, []want{failure(at, "Missing field 'runOutputName'")}},
		{"dot in a name", draft{version: "2019-05-01-preview", distribute: `{"type": "VHD", "runOutputName": "a.b"}`}, nil},
		{"dot in a name before its time", draft{version: "2019-02-01-preview", distribute: `{"type": "VHD", "runOutputName": "a.b"}`},
			[]want{failure(at+"/runOutputName", "it must match ^[A-Za-z0-9_-]{1,64}$")}},
		{"blank in a name", draft{version: "2025-10-01", distribute: `{"type": "VHD", "runOutputName": "a b"}`}, []want{failure(at+"/runOutputName", "it must match")}},
		{"name twice", draft{version: "2025-10-01", distribute: `{"type": "VHD", "runOutputName": "o"}, {"type": "VHD", "runOutputName": "O"}`},
			[]want{failure("/properties/distribute/1/runOutputName", "every target needs a name of its own, and /properties/distribute/0 has this one")}},
		{"wrong tags", vhd("2020-02-14", `, "artifactTags": {"a": 1, "b": {}}`), []want{
			warning(at+"/artifactTags/a", "read as a string"), failure(at+"/artifactTags/b", "a string is expected, not an object")}},
		{"misspelled tags", vhd("2020-02-14", `, "aritfactTags": {}`), []want{warning(at+"/aritfactTags", "perhaps 'artifactTags' is meant")}},
		{"uri", vhd("2022-07-01", `, "uri": "https://a.blob.core.windows.net/vhds/x.vhd"`), []want{notYet(at+"/uri", "'ImageTemplate.properties.distribute[0].uri' cannot be built yet: a VHD is published in the staging storage account only")}},
		{"empty uri", vhd("2022-07-01", `, "uri": ""`), nil},
		{"relative uri", vhd("2022-07-01", `, "uri": "x.vhd"`), []want{failure(at+"/uri", "an absolute http or https address."), notYet(at+"/uri", "staging")}},
		{"image without fields", draft{version: "2020-02-14", distribute: `{"type": "ManagedImage", "runOutputName": "o"}`},
			[]want{failure(at, "'imageId'"), failure(at, "'location'")}},
		{"image of a wrong type", draft{version: "2020-02-14", distribute: `{"type": "ManagedImage", "runOutputName": "o", "location": "west", "imageId": "` + galleryID + `"}`},
			[]want{failure(at+"/imageId", "Microsoft.Compute/images")}},
		{"regions needed", gallery("2022-02-14", `, "replicationRegions": []`), []want{failure(at, "Missing field 'replicationRegions'")}},
		{"regions not needed", gallery("2022-07-01", ``), nil},
		{"bare region", gallery("2020-02-14", `, "replicationRegions": "west"`), []want{warning(at+"/replicationRegions", "an array of one element")}},
		{"region twice", gallery("2020-02-14", `, "replicationRegions": ["West US", "westus"]`), []want{warning(at+"/replicationRegions/1", "'westus' is given twice")}},
		{"empty region", gallery("2020-02-14", `, "replicationRegions": [""]`), []want{failure(at+"/replicationRegions/0", "the name of a region")}},
		{"both regions", gallery("2022-07-01", `, "replicationRegions": ["west"], "targetRegions": [{"name": "west"}]`),
			[]want{failure(at+"/replicationRegions", "has both 'replicationRegions' and 'targetRegions'")}},
		{"target regions before their time", gallery("2022-02-14", `, "replicationRegions": ["west"], "targetRegions": [{"name": "west"}]`),
			[]want{warning(at+"/targetRegions", "it came with API version 2022-07-01")}},
		{"storage with regions", gallery("2022-07-01", `, "replicationRegions": ["west"], "storageAccountType": "Premium_LRS"`), nil},
		{"storage with target regions", gallery("2022-07-01", `, "storageAccountType": "Standard_LRS", "targetRegions": [{"name": "west"}]`),
			[]want{failure(at+"/storageAccountType", "give it in each of targetRegions")}},
		{"premium before its time", gallery("2020-02-14", `, "replicationRegions": ["west"], "storageAccountType": "Premium_LRS"`),
			[]want{failure(at+"/storageAccountType", "there is no Premium_LRS: it came with API version 2022-07-01")}},
		{"unknown storage", gallery("2022-07-01", `, "targetRegions": [{"name": "west", "storageAccountType": "Standard_GRS"}]`),
			[]want{failure(at+"/targetRegions/0/storageAccountType", "one of Standard_LRS, Standard_ZRS, Premium_LRS")}},
		{"no replicas", gallery("2022-07-01", `, "targetRegions": [{"name": "west", "replicaCount": 0}]`),
			[]want{failure(at+"/targetRegions/0/replicaCount", "it must be at least 1")}},
		{"target region without name", gallery("2022-07-01", `, "targetRegions": [{}]`), []want{failure(at+"/targetRegions/0", "Missing field 'name'")}},
		{"unknown in a target region, strict", gallery("2024-02-01", `, "targetRegions": [{"name": "west", "replicas": 2}]`), []want{failure(at+"/targetRegions/0/replicas",
			"unmarshalling type *v2024_02_01.ImageTemplateSharedImageDistributor: struct field TargetRegions: unmarshalling type *v2024_02_01.TargetRegion: unmarshalling type *v2024_02_01.TargetRegion, unknown field \"replicas\"")}},
		{"gallery by name", draft{version: "2022-07-01", distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "web"}`},
			[]want{{SeverityError, "LinkedInvalidPropertyId", at + "/galleryImageId", "Microsoft.Compute/galleries/GALLERY/images/DEFINITION"}}},
		{"explicit version", draft{version: "2022-07-01", distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `/versions/1.0.0"}`}, nil},
		{"latest as a target", draft{version: "2022-07-01", distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `/versions/latest"}`},
			[]want{failure(at+"/galleryImageId", "the version 'latest' is not three numbers")}},
		{"explicit version and versioning", draft{version: "2022-07-01", distribute: `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `/versions/1.0.0",
			"versioning": {"scheme": "Source"}}`}, []want{warning(at+"/versioning", "has no effect")}},
		{"no scheme", gallery("2022-07-01", `, "versioning": {"major": 1}`), []want{failure(at+"/versioning", "Missing field 'scheme'")}},
		{"major below -1", gallery("2022-07-01", `, "versioning": {"scheme": "Latest", "major": -2}`), []want{failure(at+"/versioning/major", "it must be at least -1")}},
		{"major of source", gallery("2022-07-01", `, "versioning": {"scheme": "Source", "major": 2}`), []want{warning(at+"/versioning/major", "is not a field")}},
		{"null versioning", gallery("2022-07-01", `, "versioning": null`), nil},
		{"shallow", gallery("2025-10-01", `, "replicationMode": "Shallow"`), []want{notYet(at+"/replicationMode", "images are replicated in full")}},
		{"full", gallery("2025-10-01", `, "replicationMode": "Full"`), nil},
		{"unknown mode", gallery("2025-10-01", `, "replicationMode": "shallow"`), []want{failure(at+"/replicationMode", "write Shallow")}},
		{"mode before its time", gallery("2024-02-01", `, "replicationMode": "Full"`),
			[]want{failure(at+"/replicationMode", `unknown field "replicationMode". There is an issue`)}},
	})
}

func TestDistributorValues(t *testing.T) {
	for _, tc := range []struct {
		version, text string
		want          Distributor
	}{
		{"2018-02-01-preview", `{"type": "sharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `", "replicationRegions": ["west"]}`,
			Distributor{Type: ToSharedImage, RunOutputName: "o", GalleryImageID: galleryID, Regions: []TargetRegion{{"west", 1, "Standard_LRS"}}}},
		{"2020-02-14", `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `", "replicationRegions": ["west", "east"],
			"storageAccountType": "standard_zrs", "excludeFromLatest": true, "artifactTags": {"A": "b"}}`,
			Distributor{Type: ToSharedImage, RunOutputName: "o", GalleryImageID: galleryID, ExcludeFromLatest: true, ArtifactTags: map[string]string{"A": "b"},
				Regions: []TargetRegion{{"west", 1, "Standard_ZRS"}, {"east", 1, "Standard_ZRS"}}}},
		{"2025-10-01", `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `", "replicationMode": "Shallow",
			"targetRegions": [{"name": "west"}, {"name": "east", "replicaCount": 3, "storageAccountType": "Premium_LRS"}], "versioning": {"scheme": "Latest"}}`,
			Distributor{Type: ToSharedImage, RunOutputName: "o", GalleryImageID: galleryID, Shallow: true, Versioning: &Versioning{"Latest", -1},
				Regions: []TargetRegion{{"west", 1, "Standard_LRS"}, {"east", 3, "Premium_LRS"}}}},
		{"2025-10-01", `{"type": "SharedImage", "runOutputName": "o", "galleryImageId": "` + galleryID + `", "versioning": {"scheme": "Latest", "major": 2}}`,
			Distributor{Type: ToSharedImage, RunOutputName: "o", GalleryImageID: galleryID, Versioning: &Versioning{"Latest", 2}}},
		{"2022-07-01", `{"type": "VHD", "runOutputName": "o", "uri": "https://a/b.vhd"}`, Distributor{Type: ToVHD, RunOutputName: "o", URI: "https://a/b.vhd"}},
	} {
		r := draft{version: tc.version, distribute: tc.text}.parse()
		if r.Template == nil {
			t.Errorf("%s: no template:\n%s", tc.version, brief(r.Problems))
			continue
		}
		tc.want.Pointer = "/properties/distribute/0"
		if d := cmp.Diff([]Distributor{tc.want}, r.Template.Distribute); d != "" {
			t.Errorf("%s: distribute (-want +got):\n%s", tc.version, d)
		}
	}
}
