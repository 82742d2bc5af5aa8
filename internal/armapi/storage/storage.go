// Package storage provides the control plane of Microsoft.Storage: accounts,
// their keys and their containers. The blobs themselves are served elsewhere.
package storage

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/resource"
)

var versions = []string{"2024-01-01", "2023-05-01", "2023-01-01", "2022-09-01", "2021-09-01", "2021-04-01", "2019-06-01", "2019-04-01"}

// Blobs are the accounts of the data plane.
type Blobs interface {
	CreateAccount(ctx context.Context, account string) error
	DeleteAccount(ctx context.Context, account string) error
	NewContainer(ctx context.Context, account, container string, s blob.ContainerSettings) (blob.ContainerInfo, error)
	UpdateContainer(ctx context.Context, account, container string, change func(*blob.ContainerInfo) error) (blob.ContainerInfo, error)
	Container(ctx context.Context, account, container string) (blob.ContainerInfo, error)
	Containers(ctx context.Context, account string) ([]string, error)
	DeleteContainer(ctx context.Context, account, container string) error
}

// Config is what the provider works with.
type Config struct {
	Store resource.Store
	Blobs Blobs
	// Endpoint is the address of an account's blobs, with a slash at its end.
	Endpoint func(account string) string
}

type provider struct {
	Config
	directory *account.Directory
}

// Provider is Microsoft.Storage.
func Provider(c Config) armapi.Provider {
	p := &provider{c, account.NewDirectory(c.Store)}
	// Generated clients take 201 for an error here.
	k := armapi.Kind{Store: c.Store, AlwaysOK: true, Leaf: true, Prepare: p.prepare, Show: p.show,
		Stored: func(ctx context.Context, rec resource.Record, _ bool) error {
			if err := c.Blobs.CreateAccount(ctx, rec.Name); err != nil && !arm.IsCode(err, arm.CodeConflict) {
				return err
			}
			_, err := account.Load(ctx, c.Store, rec.ID)
			return err
		},
		Removed: func(ctx context.Context, rec resource.Record) error { return Removed(c.Blobs)(ctx, []string{rec.ID}) },
	}
	const containers = "storageAccounts/blobServices/containers"
	return armapi.Provider{
		Namespace: "Microsoft.Storage",
		Types: []armapi.Type{
			k.Fill(armapi.Type{Name: "storageAccounts", Versions: versions, Tracked: true, Pattern: "[a-z0-9]{3,24}", Actions: map[string]armapi.Action{
				"listKeys":      {Handle: p.listKeys, Permission: account.Type + "/listkeys/action"},
				"regenerateKey": {Handle: p.regenerateKey, Permission: account.Type + "/regeneratekey/action"},
			}}),
			{Name: "storageAccounts/blobServices", Versions: versions, Pattern: "(?i)default", Get: p.service, List: p.services},
			{Name: containers, Versions: versions, Get: p.container, List: p.containers, Put: p.putContainer, Patch: p.putContainer, Delete: p.deleteContainer},
		},
		Actions: map[string]armapi.Action{"checkNameAvailability": {Handle: p.checkName, Permission: "Microsoft.Storage/checknameavailability/read"}},
	}
}

// Removed removes the data of the storage accounts among the ids that went with
// their group.
func Removed(blobs Blobs) func(ctx context.Context, ids []string) error {
	return func(ctx context.Context, ids []string) error {
		var errs []error
		for _, id := range ids {
			parsed, err := arm.ParseID(id)
			if err != nil || !parsed.IsType(account.Type) {
				continue
			}
			if err := blobs.DeleteAccount(ctx, strings.ToLower(parsed.Name)); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

func (p *provider) prepare(ctx context.Context, r *armapi.Request, d *armapi.Draft) error {
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	if d.Kind == "" {
		d.Kind = "StorageV2"
	}
	var other struct {
		SKU map[string]any `json:"sku"`
	}
	if len(d.Other) > 0 {
		if err := json.Unmarshal(d.Other, &other); err != nil {
			return arm.Errorf(arm.CodeInvalidJSON, "'sku' must be an object: %w", err).At("sku")
		}
	}
	name, _ := other.SKU["name"].(string)
	if name == "" && d.Before != nil {
		d.Other = d.Before.Other
	} else {
		if name == "" {
			return arm.Errorf("AccountPropertyIsNotSet", "values for required account properties are missing: 'sku.name'.").At("sku.name")
		}
		tier, _, _ := strings.Cut(name, "_")
		var err error
		if d.Other, err = json.Marshal(map[string]any{"sku": map[string]any{"name": name, "tier": tier}}); err != nil {
			return err
		}
	}
	if d.Before == nil {
		if a, err := p.directory.Find(ctx, d.Name); err == nil {
			return armapi.Status(http.StatusConflict, arm.Errorf("StorageAccountAlreadyTaken", "the storage account named %s is already taken.", d.Name).At(a.ID))
		} else if !arm.IsCode(err, arm.CodeNotFound) {
			return err
		}
		d.Properties["creationTime"] = time.Now().UTC().Format(time.RFC3339Nano)
	} else {
		var before map[string]any
		if err := json.Unmarshal(d.Before.Properties, &before); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", d.ID, err)
		}
		for name, v := range before { // a PUT changes what it names
			if d.Properties[name] == nil {
				d.Properties[name] = v
			}
		}
	}
	for name, v := range map[string]any{
		"supportsHttpsTrafficOnly": true, "minimumTlsVersion": "TLS1_2", "accessTier": "Hot", "allowBlobPublicAccess": false,
	} {
		if d.Properties[name] == nil {
			d.Properties[name] = v
		}
	}
	d.Properties["primaryLocation"], d.Properties["statusOfPrimary"] = d.Location, "available"
	d.Properties["primaryEndpoints"] = map[string]any{"blob": p.Endpoint(d.Name)}
	return nil
}

// show puts the address at which blobs are served now into the answer: records
// may be older than the service's name.
func (p *provider) show(_ context.Context, _ *armapi.Request, rec *resource.Record) error {
	properties := map[string]any{}
	if len(rec.Properties) > 0 {
		if err := json.Unmarshal(rec.Properties, &properties); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
		}
	}
	properties["primaryEndpoints"] = map[string]any{"blob": p.Endpoint(rec.Name)}
	if rec.Kind == "" {
		rec.Kind = "StorageV2"
	}
	if rec.Other == nil {
		rec.Other = json.RawMessage(`{"sku":{"name":"Standard_LRS","tier":"Standard"}}`)
	}
	var err error
	rec.Properties, err = json.Marshal(properties)
	return err
}

func (p *provider) checkName(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	var body struct {
		Name string `json:"name"`
	}
	if err := r.Decode(&body); err != nil {
		return armapi.Response{}, err
	}
	if err := blob.CheckAccount(body.Name); err != nil {
		return armapi.OK(map[string]any{"nameAvailable": false, "reason": "AccountNameInvalid", "message": err.Error()}), nil
	}
	_, err := p.directory.Find(ctx, body.Name)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.OK(map[string]any{"nameAvailable": true}), nil
	}
	return armapi.OK(map[string]any{"nameAvailable": false, "reason": "AlreadyExists", "message": "The storage account named " + body.Name + " is already taken."}), err
}

// missing says what of an account's path is not there.
func (p *provider) missing(ctx context.Context, r *armapi.Request, err error) error {
	if !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if _, err := p.Store.Get(ctx, arm.GroupID(r.Subscription, r.Group)); arm.IsCode(err, arm.CodeNotFound) {
		return armapi.ErrGroupNotFound(r.Group)
	}
	return armapi.ErrResourceNotFound(account.Type, r.Names[0], r.Group)
}

func keys(s account.Secrets) armapi.Response {
	list := []map[string]any{}
	for _, k := range s.Keys {
		list = append(list, map[string]any{
			"keyName": k.Name, "value": base64.StdEncoding.EncodeToString(k.Value), "permissions": "FULL",
			"creationTime": k.Created.UTC().Format(time.RFC3339Nano),
		})
	}
	return armapi.OK(map[string]any{"keys": list})
}

func (p *provider) listKeys(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	s, err := account.Load(ctx, p.Store, r.ID)
	return keys(s), p.missing(ctx, r, err)
}

func (p *provider) regenerateKey(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	var body struct {
		KeyName string `json:"keyName"`
	}
	if err := r.Decode(&body); err != nil {
		return armapi.Response{}, err
	}
	s, err := account.Regenerate(ctx, p.Store, r.ID, body.KeyName)
	return keys(s), p.missing(ctx, r, err)
}
