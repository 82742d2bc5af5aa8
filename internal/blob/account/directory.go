package account

import (
	"context"
	"encoding/json"
	"strings"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Account is a storage account as its data plane needs it.
type Account struct {
	ID      string // resource id
	Name    string
	Secrets Secrets
	// Public says whether containers may open themselves to anybody
	// (allowBlobPublicAccess).
	Public bool
	// SharedKey says whether the account's keys can sign (allowSharedKeyAccess).
	SharedKey bool
}

// ContainerID is the resource id of a container, the scope of its data actions.
func (a Account) ContainerID(container string) string {
	return a.ID + "/blobServices/default/containers/" + container
}

// Directory finds accounts by name. Names are unique; it remembers where they
// were, and asks the store each time whether they still are.
type Directory struct {
	store resource.Store

	mu  sync.Mutex
	ids map[string]string // by name
}

// NewDirectory makes a Directory of the accounts in store.
func NewDirectory(store resource.Store) *Directory {
	return &Directory{store: store, ids: map[string]string{}}
}

// Find returns the account called name, with its secrets as they are now. The
// error is arm.CodeNotFound when there is none.
func (d *Directory) Find(ctx context.Context, name string) (Account, error) {
	d.mu.Lock()
	id := d.ids[name]
	d.mu.Unlock()
	if id != "" {
		if a, err := d.get(ctx, id); err == nil || !arm.IsCode(err, arm.CodeNotFound) {
			return a, err
		}
	}
	id, err := d.search(ctx, name)
	if err != nil {
		return Account{}, err
	}
	d.mu.Lock()
	d.ids[name] = id
	d.mu.Unlock()
	return d.get(ctx, id)
}

func (d *Directory) search(ctx context.Context, name string) (string, error) {
	for q := (resource.Query{Type: Type, PageSize: 1000}); ; {
		records, next, err := d.store.List(ctx, q)
		if err != nil {
			return "", err
		}
		for _, r := range records {
			if strings.EqualFold(r.Name, name) {
				return r.ID, nil
			}
		}
		if next == "" {
			return "", arm.Errorf(arm.CodeNotFound, "there is no storage account %.40q", name)
		}
		q.PageToken = next
	}
}

func (d *Directory) get(ctx context.Context, id string) (Account, error) {
	r, err := d.store.Get(ctx, id)
	if err != nil {
		return Account{}, err
	}
	s, ok, err := read(r)
	if err == nil && !ok {
		s, err = Load(ctx, d.store, id)
	}
	if err != nil {
		return Account{}, err
	}
	var properties struct {
		AllowBlobPublicAccess *bool `json:"allowBlobPublicAccess"`
		AllowSharedKeyAccess  *bool `json:"allowSharedKeyAccess"`
	}
	if len(r.Properties) > 0 {
		if err := json.Unmarshal(r.Properties, &properties); err != nil {
			return Account{}, arm.Errorf(arm.CodeCorrupt, "the account's properties are damaged: %w", err).At(id)
		}
	}
	a := Account{ID: r.ID, Name: strings.ToLower(r.Name), Secrets: s, Public: true, SharedKey: true}
	if p := properties.AllowBlobPublicAccess; p != nil {
		a.Public = *p
	}
	if p := properties.AllowSharedKeyAccess; p != nil {
		a.SharedKey = *p
	}
	return a, nil
}
