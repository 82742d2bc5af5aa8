package blob

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"goldsmith/internal/arm"
)

// Access is what anybody may read in a container without signing in.
type Access string

// Accesses, with the Blob service's names.
const (
	AccessNone      Access = ""          // nothing
	AccessBlob      Access = "blob"      // blobs, by their names
	AccessContainer Access = "container" // the list of blobs too
)

// Policy is a stored access policy, which a signature can name.
type Policy struct {
	ID         string    `json:"id"`
	Start      time.Time `json:"start,omitzero"`
	Expiry     time.Time `json:"expiry,omitzero"`
	Permission string    `json:"permission,omitempty"`
}

// ContainerSettings are what can be set of a container.
type ContainerSettings struct {
	Access   Access            `json:"access,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"` // by lower-case name
	Policies []Policy          `json:"policies,omitempty"` // 5 at most
}

// ContainerInfo describes a container.
type ContainerInfo struct {
	ContainerSettings
	Name    string
	ETag    string // quoted; changes with every change of the settings
	ModTime time.Time
}

// containerRecord is what a container's marker holds; versions before had empty
// markers.
type containerRecord struct {
	ContainerSettings
	ETag string `json:"etag"`
}

// CreateContainer makes a container with default settings; CodeConflict when
// there is one, CodeNotFound without the account.
func (a *Accounts) CreateContainer(ctx context.Context, account, container string) error {
	_, err := a.NewContainer(ctx, account, container, ContainerSettings{})
	return err
}

// NewContainer is CreateContainer with settings.
func (a *Accounts) NewContainer(ctx context.Context, account, container string, s ContainerSettings) (ContainerInfo, error) {
	if err := errors.Join(CheckAccount(account), CheckContainer(container)); err != nil {
		return ContainerInfo{}, err
	}
	if err := a.wantAccount(ctx, account); err != nil {
		return ContainerInfo{}, err
	}
	raw, err := json.Marshal(containerRecord{ContainerSettings: s, ETag: newETag()})
	if err != nil {
		return ContainerInfo{}, arm.Errorf(arm.CodeInternal, "encode the settings of the container: %w", err).At(container)
	}
	if err := a.mark(ctx, containerMarker(account, container), "container "+container, raw); err != nil {
		return ContainerInfo{}, err
	}
	return a.Container(ctx, account, container)
}

// Container describes a container; CodeNotFound.
func (a *Accounts) Container(ctx context.Context, account, container string) (ContainerInfo, error) {
	if err := errors.Join(CheckAccount(account), CheckContainer(container)); err != nil {
		return ContainerInfo{}, err
	}
	marker := containerMarker(account, container)
	attrs, err := a.bucket.Attributes(ctx, marker)
	if err != nil {
		return ContainerInfo{}, fault("look for container", account+"/"+container, err)
	}
	raw, err := a.bucket.ReadAll(ctx, marker)
	if err != nil {
		return ContainerInfo{}, fault("look for container", account+"/"+container, err)
	}
	rec := containerRecord{ETag: attrs.ETag}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &rec); err != nil {
			return ContainerInfo{}, arm.Errorf(arm.CodeCorrupt, "the settings of the container are damaged: %w", err).At(container)
		}
	}
	return ContainerInfo{ContainerSettings: rec.ContainerSettings, Name: container, ETag: rec.ETag, ModTime: attrs.ModTime.UTC()}, nil
}

// UpdateContainer changes a container's settings; CodeNotFound, or change's error.
func (a *Accounts) UpdateContainer(ctx context.Context, account, container string, change func(*ContainerInfo) error) (ContainerInfo, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return ContainerInfo{}, err
	}
	defer unlock()
	info, err := a.Container(ctx, account, container)
	if err != nil {
		return ContainerInfo{}, err
	}
	if err := change(&info); err != nil {
		return ContainerInfo{}, err
	}
	raw, err := json.Marshal(containerRecord{ContainerSettings: info.ContainerSettings, ETag: newETag()})
	if err == nil {
		err = a.markers.WriteAll(ctx, containerMarker(account, container), raw, &blob.WriterOptions{ContentType: defaultType})
	}
	if err != nil {
		return ContainerInfo{}, fault("change container", container, err)
	}
	return a.Container(ctx, account, container)
}

// DeleteContainer removes a container with all its blobs; CodeNotFound.
func (a *Accounts) DeleteContainer(ctx context.Context, account, container string) error {
	if err := errors.Join(CheckAccount(account), CheckContainer(container)); err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// The blobs go first: a container whose deletion broke off can be deleted again.
	if err := a.wantContainer(ctx, account, container); err != nil {
		return err
	}
	below := account + "/" + container + "/"
	if err := errors.Join(clear(ctx, a.bucket, "b/"+below), clear(ctx, a.content, "s/"+below)); err != nil {
		return fault("delete container", container, err)
	}
	return fault("delete container", container, a.bucket.Delete(ctx, containerMarker(account, container)))
}

// clear removes every object under prefix.
func clear(ctx context.Context, bucket *blob.Bucket, prefix string) error {
	all, err := objects(ctx, bucket, prefix)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := bucket.Delete(ctx, o.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
	return nil
}

// Containers lists the containers of an account by name; CodeNotFound.
func (a *Accounts) Containers(ctx context.Context, account string) ([]string, error) {
	if err := CheckAccount(account); err != nil {
		return nil, err
	}
	if err := a.wantAccount(ctx, account); err != nil {
		return nil, err
	}
	prefix := containerMarker(account, "")
	markers, err := objects(ctx, a.bucket, prefix)
	if err != nil {
		return nil, fault("list containers", account, err)
	}
	names := make([]string, len(markers))
	for i, o := range markers {
		names[i] = strings.TrimPrefix(o.Key, prefix)
	}
	return names, nil
}
