package imagetemplate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSourceRules(t *testing.T) {
	image := func(id string) string { return `{"type": "ManagedImage", "imageId": "` + id + `"}` }
	version := func(id string) string { return `{"type": "SharedImageVersion", "imageVersionId": "` + id + `"}` }
	const at = "/properties/source"
	runRules(t, []ruleCase{
		{"no type", draft{version: "2020-02-14", source: `{}`},
			[]want{failure(at, "Validation failed: 'ImageTemplate.properties.source': Missing field 'type'. Please review http://aka.ms/azvmimagebuildertmplref for details on fields required in the Image Builder Template.")}},
		{"unknown type", draft{version: "2020-02-14", source: `{"type": "PlatformImge"}`},
			[]want{failure(at+"/type", "it must be one of PlatformImage, ManagedImage, SharedImageVersion; perhaps 'PlatformImage' is meant")}},
		{"null", draft{version: "2020-02-14", source: `null`}, []want{failure("/properties", "Missing field 'source'")}},
		{"not an object", draft{version: "2020-02-14", source: `"ubuntu"`}, []want{failure(at, "an object is expected, not a string")}},
		{"platform image without fields", draft{version: "2025-10-01", source: `{"type": "PlatformImage"}`},
			[]want{failure(at, "'publisher'"), failure(at, "'offer'"), failure(at, "'sku'"), failure(at, "'version'")}},
		{"incomplete plan", draft{version: "2020-02-14", source: `{"type": "PlatformImage", "publisher": "p", "offer": "o", "sku": "s",
			"version": "1", "planInfo": {"planName": "n", "planProduct": ""}}`},
			[]want{failure(at+"/planInfo", "'planProduct'"), failure(at+"/planInfo", "'planPublisher'"), warning(at+"/planInfo", "the plan is recorded")}},
		{"plan before its time", draft{version: "2019-05-01-preview", source: `{"type": "PlatformImage", "publisher": "p", "offer": "o", "sku": "s",
			"version": "1", "planInfo": {}}`}, []want{warning(at+"/planInfo", "it came with API version 2020-02-14")}},
		{"managed image before its time", draft{version: "2018-02-01-preview", source: image(imageID)},
			[]want{failure(at+"/type", "in 2018-02-01-preview there is no ManagedImage: it came with API version 2019-02-01-preview")}},
		{"managed image", draft{version: "2019-02-01-preview", source: image(imageID)}, nil},
		{"managed image by name", draft{version: "2022-07-01", source: image("web")},
			[]want{{SeverityError, "LinkedInvalidPropertyId", at + "/imageId", "Validation failed: 'ImageTemplate.properties.source': Field 'imageId' has a bad value: 'web'. Please review  http://aka.ms/azvmimagebuildertmplref  for details on fields requirements in the Image Builder Template. Cause: it must be a resource id, /subscriptions/"}}},
		{"managed image of another type", draft{version: "2022-07-01", source: image(galleryID)},
			[]want{failure(at+"/imageId", "it must be the id of a resource of type Microsoft.Compute/images")}},
		{"managed image without a slash in front", draft{version: "2022-07-01", source: image(imageID[1:])},
			[]want{{SeverityError, "LinkedInvalidPropertyId", at + "/imageId", "it must be a resource id"}}},
		{"managed image with a slash behind", draft{version: "2022-07-01", source: image(imageID + "/")},
			[]want{failure(at+"/imageId", "Microsoft.Compute/images")}},
		{"gallery version", draft{version: "2019-05-01-preview", source: version(galleryID + "/versions/1.2.3")}, nil},
		{"gallery version of bad form", draft{version: "2022-07-01", source: version(galleryID + "/versions/1.2")},
			[]want{failure(at+"/imageVersionId", "the version '1.2' is not three numbers")}},
		{"gallery version beyond 32 bits", draft{version: "2022-07-01", source: version(galleryID + "/versions/1.2.2147483648")},
			[]want{failure(at+"/imageVersionId", "is not three numbers")}},
		{"gallery image without version", draft{version: "2022-07-01", source: version(galleryID)},
			[]want{failure(at+"/imageVersionId", "Microsoft.Compute/galleries/images/versions")}},
		{"latest", draft{version: "2022-07-01", source: version(galleryID + "/versions/latest")}, nil},
		{"latest in another case", draft{version: "2025-10-01", source: version(galleryID + "/versions/Latest")}, nil},
		{"latest before its time", draft{version: "2022-02-14", source: version(galleryID + "/versions/latest")},
			[]want{failure(at+"/imageVersionId", "versions/latest came with API version 2022-07-01")}},
		{"shared directly", draft{version: "2022-07-01", source: version("/SharedGalleries/shop/Images/web/Versions/1.0.0")},
			[]want{notYet(at+"/imageVersionId", "galleries that others share are not searched")}},
		{"shared directly, by subscription", draft{version: "2022-07-01",
			source: version("/subscriptions/s/providers/Microsoft.Compute/locations/west/sharedGalleries/shop/images/web/versions/latest")},
			[]want{notYet(at+"/imageVersionId", "galleries that others share are not searched")}},
		{"shared directly before its time", draft{version: "2022-02-14", source: version("/SharedGalleries/shop/Images/web/Versions/1.0.0")},
			[]want{{SeverityError, "LinkedInvalidPropertyId", at + "/imageVersionId", "it must be a resource id"}, notYet(at+"/imageVersionId", "galleries that others share are not searched")}},
		{"iso", draft{version: "2019-05-01-preview", source: `{"type": "ISO", "sourceUri": "https://h/x.iso", "sha256Checksum": "` + sum + `"}`},
			[]want{notYet(at, "an ISO is not installed from")}},
		{"iso of 2018", draft{version: "2018-02-01-preview", source: `{"type": "ISO", "sourceURI": "https://h/x.iso", "sha256Checksum": "` + sum + `"}`},
			[]want{notYet(at, "an ISO is not installed from")}},
		{"iso without fields", draft{version: "2019-02-01-preview", source: `{"type": "ISO"}`},
			[]want{failure(at, "'sourceURI'"), failure(at, "'sha256Checksum'"), notYet(at, "an ISO")}},
		{"iso after its time", draft{version: "2020-02-14", source: `{"type": "ISO"}`},
			[]want{failure(at+"/type", "the last API version with it is 2019-05-01-preview")}},
		{"read-only version", draft{version: "2022-07-01", source: `{"type": "SharedImageVersion", "exactVersion": "1", "imageVersionId": "` + galleryID + `/versions/1.2.3"}`},
			[]want{warning(at+"/exactVersion", "'exactVersion' is read-only")}},
	})
}

func TestSourceValues(t *testing.T) {
	for _, tc := range []struct {
		draft draft
		want  Source
	}{
		{draft{version: "2021-10-01", source: `{"TYPE": "platformimage", "Publisher": "p", "offer": "o", "sku": "s", "version": "latest",
			"exactVersion": "1.2", "planInfo": {"planName": "n", "planProduct": "d", "planPublisher": "u"}}`},
			Source{Type: PlatformImage, Publisher: "p", Offer: "o", SKU: "s", Version: "latest", ExactVersion: "1.2",
				Plan: &Plan{Name: "n", Product: "d", Publisher: "u"}}},
		{draft{version: "2019-02-01-preview", source: `{"type": "ISO", "sourceURI": "https://h/x.iso", "sha256Checksum": "` + sum + `"}`},
			Source{Type: ISO, URI: "https://h/x.iso", SHA256: sum}},
		{draft{version: "2019-05-01-preview", source: `{"type": "SharedImageVersion", "imageVersionId": "` + galleryID + `/versions/1.2.3"}`},
			Source{Type: SharedImageVersion, ImageID: galleryID + "/versions/1.2.3"}},
	} {
		r := tc.draft.parse()
		if r.Template == nil {
			t.Errorf("no template:\n%s", brief(r.Problems))
			continue
		}
		if d := cmp.Diff(tc.want, r.Template.Source); d != "" {
			t.Errorf("source (-want +got):\n%s", d)
		}
	}
}
