package providers_test

import (
	"encoding/json"
	"strings"
	"testing"

	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/resource"
)

const compute = rg + "/providers/Microsoft.Compute/"

// putImage stores an image as a build does.
func putImage(t *testing.T, d *armapitest.Door, id string) {
	t.Helper()
	_, _, err := d.DB.Resources().Put(t.Context(), resource.Record{
		ID: id, Type: "Microsoft.Compute/images", Name: id[strings.LastIndex(id, "/")+1:], Location: "westus2", Properties: json.RawMessage(`{"hyperVGeneration":"V2"}`),
		Internal: json.RawMessage(`{"image":"sha256:1","os":"Linux","generation":2,"diskBytes":2147483649}`),
	}, resource.Condition{})
	if err != nil {
		t.Fatal(err)
	}
}

func definition(sku string) string {
	return `{"location":"westus2","properties":{"disallowed":{},"hyperVGeneration":"V2","identifier":{"publisher":"corpIT","offer":"myOffer","sku":"` + sku + `"},"osState":"generalized","osType":"linux"},"tags":{}}`
}

func TestGalleries(t *testing.T) {
	d, _ := door(t)
	g := compute + "galleries/sig1"
	if a := d.Want(404, "PUT", g+"/images/def1", definition("a")); a.Code() != "ParentResourceNotFound" {
		t.Error(a.Text)
	}
	if a := d.Want(201, "PUT", g, `{"location":"WestUS2"}`); !strings.HasSuffix(a.Field("properties.identifier.uniqueName"), "-SIG1") {
		t.Error(a.Text)
	}
	def := g + "/images/def1"
	a := d.Want(201, "PUT", def, definition("a"))
	if a.Field("properties.architecture") != "x64" || a.Field("properties.osType") != "Linux" || a.Field("properties.disallowed") != "" {
		t.Error(a.Text)
	}
	d.Want(200, "PUT", def, definition("a"))
	if a := d.Want(409, "PUT", def, strings.Replace(definition("a"), `"V2"`, `"V1"`, 1)); a.Code() != "PropertyChangeNotAllowed" {
		t.Error(a.Text)
	}
	if a := d.Want(409, "PUT", g+"/images/def2", definition("a")); a.Code() != "GalleryImageIdentifierInUse" {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", g+"/images/def2", definition("b"))
	for _, body := range []string{
		`{"location":"westus2","properties":{"osType":"Linux"}}`,
		strings.Replace(definition("c"), `"linux"`, `"BeOS"`, 1),
	} {
		d.Want(400, "PUT", g+"/images/def3", body)
	}
	if a := d.Want(200, "GET", g+"/images", ""); a.Field("value.1.name") != "def2" {
		t.Error(a.Text)
	}
	if a := d.Want(409, "DELETE", g, ""); a.Code() != "CannotDeleteResource" {
		t.Error(a.Text)
	}
	d.Want(200, "DELETE", g+"/images/def2", "")
	d.Want(200, "DELETE", def, "")
	d.Want(200, "DELETE", g, "")
	d.Want(404, "GET", g+"/images", "")
}

func TestVersions(t *testing.T) {
	d, _ := door(t)
	img := compute + "images/img0"
	putImage(t, d, img)
	d.Want(201, "PUT", compute+"galleries/sig1", `{"location":"westus2"}`)
	d.Want(201, "PUT", compute+"galleries/sig1/images/def1", definition("a"))
	versions := compute + "galleries/sig1/images/def1/versions"
	if a := d.Want(200, "GET", versions, ""); a.Text != `{"value":[]}` {
		t.Error(a.Text)
	}
	body := `{"location":"westus2","properties":{"publishingProfile":{"targetRegions":[{"name":"West US 2"},{"name":"eastus","regionalReplicaCount":2}]},"storageProfile":{"source":{"id":"` + img + `"}}}}`
	v := versions + "/1.0.0"
	a := d.Want(201, "PUT", v, body)
	if a.Field("properties.publishingProfile.targetRegions.0.regionalReplicaCount") != "1" || a.Field("properties.storageProfile.osDiskImage.sizeInGB") != "3" || a.Field("properties.replicationStatus") != "" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "GET", v+"?$expand=ReplicationStatus", ""); a.Field("properties.replicationStatus.summary.1.state") != "Completed" || a.Field("properties.replicationStatus.aggregatedState") != "Completed" {
		t.Error(a.Text)
	}
	rec, err := d.DB.Resources().Get(t.Context(), v)
	if err != nil || !strings.Contains(string(rec.Internal), "sha256:1") {
		t.Errorf("the version does not refer to the image's content: %s %v", rec.Internal, err)
	}
	d.Want(200, "PUT", v, body)
	d.Want(400, "PUT", versions+"/1.0", body)
	d.Want(400, "PUT", versions+"/1.0.1", `{"location":"westus2"}`)
	d.Want(404, "PUT", versions+"/1.0.1", strings.Replace(body, "img0", "img1", 1))
	if a := d.Want(409, "DELETE", compute+"galleries/sig1/images/def1", ""); a.Code() != "CannotDeleteResource" {
		t.Error(a.Text)
	}
	d.Want(200, "DELETE", v, "")
	d.Want(204, "DELETE", v, "")
	// A definition for another generation does not take the image.
	d.Want(201, "PUT", compute+"galleries/sig1/images/v1", strings.Replace(definition("b"), `"V2"`, `"V1"`, 1))
	d.Want(409, "PUT", compute+"galleries/sig1/images/v1/versions/1.0.0", body)
}

func TestImages(t *testing.T) {
	d, _ := door(t)
	img := compute + "images/img1"
	if a := d.Want(409, "PUT", img, `{"location":"westus2"}`); a.Code() != "OperationNotAllowed" {
		t.Error(a.Text)
	}
	putImage(t, d, img)
	a := d.Want(200, "PUT", img, `{"location":"westus2","properties":{"storageProfile":{"osDisk":{"osType":"Linux","osState":"Generalized"}},"hyperVGeneration":"V2"}}`)
	if a.Field("properties.storageProfile.osDisk.storageAccountType") != "Standard_LRS" {
		t.Error(a.Text)
	}
	d.Want(400, "PUT", img, `{"location":"westus2","properties":{"storageProfile":{"osDisk":{"osType":"BeOS"}}}}`)
	if rec, err := d.DB.Resources().Get(t.Context(), img); err != nil || len(rec.Internal) == 0 {
		t.Errorf("a PUT took the image's content away: %v", err)
	}
	d.Want(200, "PATCH", img, `{"tags":{"a":"b"}}`)
	d.Want(200, "GET", compute+"images", "")
	d.Want(200, "GET", s+"/providers/Microsoft.Compute/images", "")
	d.Want(200, "DELETE", img, "")
	if a := d.Want(404, "GET", img, ""); a.Code() != "ResourceNotFound" {
		t.Error(a.Text)
	}
	d.Want(405, "PUT", compute+"virtualMachines/v", `{"location":"westus2"}`)
}
