package contract

import (
	"encoding/json"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage"

	"goldsmith/internal/resource"
)

func TestImagesAndGalleries(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	f := got[*armcompute.ClientFactory](t)(armcompute.NewClientFactory(subscription, c.cred, c.options))

	images := f.NewImagesClient()
	_, err := images.BeginCreateOrUpdate(ctx, group, "img", armcompute.Image{Location: to.Ptr(region)}, nil)
	refused(t, err, 409, "OperationNotAllowed")
	imageID := groupID + "/providers/Microsoft.Compute/images/img"
	_, _, err = c.resources.Put(ctx, resource.Record{
		ID: imageID, Type: "Microsoft.Compute/images", Name: "img", Location: region,
		Properties: json.RawMessage(`{"hyperVGeneration":"V2","provisioningState":"Succeeded","storageProfile":{"osDisk":{"osType":"Linux","osState":"Generalized"}}}`),
		Internal:   json.RawMessage(`{"image":"sha256:1","os":"Linux","generation":2,"diskBytes":1073741824}`),
	}, resource.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	done[armcompute.ImagesClientUpdateResponse](t)(images.BeginUpdate(ctx, group, "img", armcompute.ImageUpdate{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	img := got[armcompute.ImagesClientGetResponse](t)(images.Get(ctx, group, "img", nil))
	done[armcompute.ImagesClientCreateOrUpdateResponse](t)(images.BeginCreateOrUpdate(ctx, group, "img", img.Image, nil))
	same(t, "listed", pages(t, images.NewListPager(nil))[0].Value[0].Name, "img")
	same(t, "listed", pages(t, images.NewListByResourceGroupPager(group, nil))[0].Value[0].Name, "img")

	galleries := f.NewGalleriesClient()
	done[armcompute.GalleriesClientCreateOrUpdateResponse](t)(galleries.BeginCreateOrUpdate(ctx, group, "sig", armcompute.Gallery{Location: to.Ptr(region)}, nil))
	done[armcompute.GalleriesClientUpdateResponse](t)(galleries.BeginUpdate(ctx, group, "sig", armcompute.GalleryUpdate{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "gallery", got[armcompute.GalleriesClientGetResponse](t)(galleries.Get(ctx, group, "sig", nil)).Name, "sig")
	same(t, "listed", pages(t, galleries.NewListPager(nil))[0].Value[0].Name, "sig")
	same(t, "listed", pages(t, galleries.NewListByResourceGroupPager(group, nil))[0].Value[0].Name, "sig")

	definitions := f.NewGalleryImagesClient()
	done[armcompute.GalleryImagesClientCreateOrUpdateResponse](t)(definitions.BeginCreateOrUpdate(ctx, group, "sig", "def", armcompute.GalleryImage{
		Location: to.Ptr(region), Properties: &armcompute.GalleryImageProperties{
			OSType: to.Ptr(armcompute.OperatingSystemTypesLinux), OSState: to.Ptr(armcompute.OperatingSystemStateTypesGeneralized), HyperVGeneration: to.Ptr(armcompute.HyperVGenerationV2),
			Identifier: &armcompute.GalleryImageIdentifier{Publisher: to.Ptr("p"), Offer: to.Ptr("o"), SKU: to.Ptr("s")},
		},
	}, nil))
	done[armcompute.GalleryImagesClientUpdateResponse](t)(definitions.BeginUpdate(ctx, group, "sig", "def", armcompute.GalleryImageUpdate{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "definition", got[armcompute.GalleryImagesClientGetResponse](t)(definitions.Get(ctx, group, "sig", "def", nil)).Properties.Identifier.SKU, "s")
	same(t, "listed", pages(t, definitions.NewListByGalleryPager(group, "sig", nil))[0].Value[0].Name, "def")
	_, err = galleries.BeginDelete(ctx, group, "sig", nil)
	refused(t, err, 409, "CannotDeleteResource")

	versions := f.NewGalleryImageVersionsClient()
	done[armcompute.GalleryImageVersionsClientCreateOrUpdateResponse](t)(versions.BeginCreateOrUpdate(ctx, group, "sig", "def", "1.0.0", armcompute.GalleryImageVersion{
		Location: to.Ptr(region), Properties: &armcompute.GalleryImageVersionProperties{
			StorageProfile:    &armcompute.GalleryImageVersionStorageProfile{Source: &armcompute.GalleryArtifactVersionFullSource{ID: to.Ptr(imageID)}},
			PublishingProfile: &armcompute.GalleryImageVersionPublishingProfile{TargetRegions: []*armcompute.TargetRegion{{Name: to.Ptr(region)}, {Name: to.Ptr("eastus")}}},
		},
	}, nil))
	done[armcompute.GalleryImageVersionsClientUpdateResponse](t)(versions.BeginUpdate(ctx, group, "sig", "def", "1.0.0", armcompute.GalleryImageVersionUpdate{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	v := got[armcompute.GalleryImageVersionsClientGetResponse](t)(versions.Get(ctx, group, "sig", "def", "1.0.0", &armcompute.GalleryImageVersionsClientGetOptions{Expand: to.Ptr(armcompute.ReplicationStatusTypesReplicationStatus)}))
	if s := v.Properties.ReplicationStatus; s == nil || len(s.Summary) != 2 || *s.AggregatedState != armcompute.AggregatedReplicationStateCompleted {
		t.Errorf("replication status %+v", s)
	}
	same(t, "listed", pages(t, versions.NewListByGalleryImagePager(group, "sig", "def", nil))[0].Value[0].Name, "1.0.0")
	done[armcompute.GalleryImageVersionsClientDeleteResponse](t)(versions.BeginDelete(ctx, group, "sig", "def", "1.0.0", nil))
	done[armcompute.GalleryImagesClientDeleteResponse](t)(definitions.BeginDelete(ctx, group, "sig", "def", nil))
	done[armcompute.GalleriesClientDeleteResponse](t)(galleries.BeginDelete(ctx, group, "sig", nil))
	done[armcompute.ImagesClientDeleteResponse](t)(images.BeginDelete(ctx, group, "img", nil))
	done[armcompute.ImagesClientDeleteResponse](t)(images.BeginDelete(ctx, group, "img", nil)) // 204
	_, err = images.Get(ctx, group, "img", nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestStorage(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	f := got[*armstorage.ClientFactory](t)(armstorage.NewClientFactory(subscription, c.cred, c.options))
	accounts := f.NewAccountsClient()
	free := func() bool {
		t.Helper()
		return *got[armstorage.AccountsClientCheckNameAvailabilityResponse](t)(accounts.CheckNameAvailability(ctx, armstorage.AccountCheckNameAvailabilityParameters{
			Name: to.Ptr("acct1"), Type: to.Ptr("Microsoft.Storage/storageAccounts"),
		}, nil)).NameAvailable
	}
	if !free() {
		t.Error("the name is taken")
	}
	made := done[armstorage.AccountsClientCreateResponse](t)(accounts.BeginCreate(ctx, group, "acct1", armstorage.AccountCreateParameters{
		Location: to.Ptr(region), Kind: to.Ptr(armstorage.KindStorageV2), SKU: &armstorage.SKU{Name: to.Ptr(armstorage.SKUNameStandardLRS)},
	}, nil))
	same(t, "endpoint", made.Properties.PrimaryEndpoints.Blob, "https://acct1.blob.local.test/")
	if free() {
		t.Error("the name is free")
	}
	got[armstorage.AccountsClientUpdateResponse](t)(accounts.Update(ctx, group, "acct1", armstorage.AccountUpdateParameters{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "tag", got[armstorage.AccountsClientGetPropertiesResponse](t)(accounts.GetProperties(ctx, group, "acct1", nil)).Tags["a"], "1")
	same(t, "listed", pages(t, accounts.NewListPager(nil))[0].Value[0].Name, "acct1")
	same(t, "listed", pages(t, accounts.NewListByResourceGroupPager(group, nil))[0].Value[0].Name, "acct1")
	before := got[armstorage.AccountsClientListKeysResponse](t)(accounts.ListKeys(ctx, group, "acct1", nil))
	after := got[armstorage.AccountsClientRegenerateKeyResponse](t)(accounts.RegenerateKey(ctx, group, "acct1", armstorage.AccountRegenerateKeyParameters{KeyName: to.Ptr("key1")}, nil))
	if *before.Keys[0].Value == *after.Keys[0].Value {
		t.Error("the key is as it was")
	}

	containers := f.NewBlobContainersClient()
	got[armstorage.BlobContainersClientCreateResponse](t)(containers.Create(ctx, group, "acct1", "cont1", armstorage.BlobContainer{}, nil))
	got[armstorage.BlobContainersClientUpdateResponse](t)(containers.Update(ctx, group, "acct1", "cont1", armstorage.BlobContainer{ContainerProperties: &armstorage.ContainerProperties{PublicAccess: to.Ptr(armstorage.PublicAccessNone)}}, nil))
	same(t, "container", got[armstorage.BlobContainersClientGetResponse](t)(containers.Get(ctx, group, "acct1", "cont1", nil)).Name, "cont1")
	same(t, "listed", pages(t, containers.NewListPager(group, "acct1", nil))[0].Value[0].Name, "cont1")
	got[armstorage.BlobContainersClientDeleteResponse](t)(containers.Delete(ctx, group, "acct1", "cont1", nil))
	_, err := containers.Get(ctx, group, "acct1", "cont1", nil)
	refused(t, err, 404, "ContainerNotFound")
	got[armstorage.AccountsClientDeleteResponse](t)(accounts.Delete(ctx, group, "acct1", nil))
	_, err = accounts.GetProperties(ctx, group, "acct1", nil)
	refused(t, err, 404, "ResourceNotFound")
}
