package storage

import (
	"context"
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/blob"
)

const codeContainerNotFound arm.Code = "ContainerNotFound"

// accesses are the names that the control plane has for a container's access.
var accesses = map[string]blob.Access{"": blob.AccessNone, "none": blob.AccessNone, "blob": blob.AccessBlob, "container": blob.AccessContainer}

// accountOf is the id and the name of the account in the request's path.
func (p *provider) accountOf(ctx context.Context, r *armapi.Request) (id, name string, err error) {
	id = arm.ResourceID(r.Subscription, r.Group, "Microsoft.Storage/storageAccounts", r.Names[0])
	rec, err := p.Store.Get(ctx, id)
	if err != nil {
		return "", "", p.missing(ctx, r, err)
	}
	return rec.ID, strings.ToLower(rec.Name), nil
}

func serviceBody(account string) map[string]any {
	return map[string]any{
		"id": account + "/blobServices/default", "name": "default", "type": "Microsoft.Storage/storageAccounts/blobServices",
		"properties": map[string]any{"cors": map[string]any{"corsRules": []any{}}, "deleteRetentionPolicy": map[string]any{"enabled": false}},
	}
}

func (p *provider) service(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	id, _, err := p.accountOf(ctx, r)
	return armapi.OK(serviceBody(id)), err
}

func (p *provider) services(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	id, _, err := p.accountOf(ctx, r)
	return armapi.ListOf(r, []map[string]any{serviceBody(id)}, ""), err
}

func containerBody(account string, c blob.ContainerInfo) map[string]any {
	access := "None"
	for name, a := range accesses {
		if a == c.Access && name != "" && a != blob.AccessNone {
			access = strings.ToUpper(name[:1]) + name[1:]
		}
	}
	properties := map[string]any{
		"publicAccess": access, "lastModifiedTime": c.ModTime.UTC().Format(time.RFC3339Nano),
		"leaseState": "Available", "leaseStatus": "Unlocked", "hasImmutabilityPolicy": false, "hasLegalHold": false, "deleted": false,
	}
	if len(c.Metadata) > 0 {
		properties["metadata"] = c.Metadata
	}
	return map[string]any{
		"id": account + "/blobServices/default/containers/" + c.Name, "name": c.Name, "etag": c.ETag,
		"type": "Microsoft.Storage/storageAccounts/blobServices/containers", "properties": properties,
	}
}

func (p *provider) container(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	id, name, err := p.accountOf(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	info, err := p.Blobs.Container(ctx, name, r.Name())
	if arm.IsCode(err, arm.CodeNotFound) {
		err = armapi.Status(http.StatusNotFound, arm.Errorf(codeContainerNotFound, "the specified container does not exist."))
	}
	return armapi.OK(containerBody(id, info)), err
}

func (p *provider) containers(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	id, name, err := p.accountOf(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	names, err := p.Blobs.Containers(ctx, name)
	if err != nil {
		return armapi.Response{}, err
	}
	var list []map[string]any
	for _, n := range names {
		info, err := p.Blobs.Container(ctx, name, n)
		if arm.IsCode(err, arm.CodeNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return armapi.Response{}, err
		}
		list = append(list, containerBody(id, info))
	}
	return armapi.ListOf(r, list, ""), nil
}

func (p *provider) putContainer(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	var body struct {
		Properties struct {
			PublicAccess *string           `json:"publicAccess"`
			Metadata     map[string]string `json:"metadata"`
		} `json:"properties"`
	}
	if len(r.Body) > 0 {
		if err := r.Decode(&body); err != nil {
			return armapi.Response{}, err
		}
	}
	id, name, err := p.accountOf(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	change := func(c *blob.ContainerInfo) error {
		if in := body.Properties.PublicAccess; in != nil {
			access, ok := accesses[strings.ToLower(*in)]
			if !ok {
				return arm.Errorf(arm.CodeValidationFailed, "'%s' is no public access; it is None, Blob or Container", *in).At("properties.publicAccess")
			}
			c.Access = access
		}
		if in := body.Properties.Metadata; in != nil {
			c.Metadata = map[string]string{}
			for key, v := range in {
				c.Metadata[strings.ToLower(key)] = v
			}
		}
		return nil
	}
	info, err := p.Blobs.UpdateContainer(ctx, name, r.Name(), change)
	if arm.IsCode(err, arm.CodeNotFound) && r.Method == http.MethodPut {
		var fresh blob.ContainerInfo
		if err := change(&fresh); err != nil {
			return armapi.Response{}, err
		}
		info, err = p.Blobs.NewContainer(ctx, name, r.Name(), fresh.ContainerSettings)
		return armapi.Created(true, containerBody(id, info)), err
	}
	if arm.IsCode(err, arm.CodeNotFound) {
		err = armapi.Status(http.StatusNotFound, arm.Errorf(codeContainerNotFound, "the specified container does not exist."))
	}
	return armapi.OK(containerBody(id, info)), err
}

func (p *provider) deleteContainer(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	_, name, err := p.accountOf(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.Blobs.DeleteContainer(ctx, name, r.Name()); arm.IsCode(err, arm.CodeNotFound) {
		return armapi.NoContent(), nil
	} else if err != nil {
		return armapi.Response{}, err
	}
	return armapi.Response{Status: http.StatusOK}, nil
}
