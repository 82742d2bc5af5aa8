package buildtest

import (
	"encoding/json"
	"os"
	"path/filepath"

	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/resource"
)

// HostileImage writes a qcow2 file that claims size bytes and names backing, ""
// for none, as its backing file.
func (l *Lab) HostileImage(backing string, size int64) string {
	l.Helper()
	path := filepath.Join(l.Scratch, "hostile.qcow2")
	f, err := os.Create(path)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	var b *qcow2.Backing
	if backing != "" {
		b = &qcow2.Backing{Path: backing, Format: "raw"}
	}
	if _, err := qcow2.NewWriter(f, min(size, 1<<40), nil, b); err != nil {
		l.Fatal(err)
	}
	if size > 1<<40 {
		if _, err := f.WriteAt([]byte{byte(size >> 56), byte(size >> 48)}, 24); err != nil {
			l.Fatal(err)
		}
	}
	return path
}

// PutDefinition makes an image definition for images of a generation ("V1" or
// "V2"), with its gallery.
func (l *Lab) PutDefinition(name, generation string) {
	l.Helper()
	gallery := l.ID("Microsoft.Compute/galleries/gal")
	for _, r := range []resource.Record{
		{ID: "/subscriptions/" + l.Engine.Subscription() + "/resourceGroups/" + Group, Type: "Microsoft.Resources/resourceGroups", Name: Group},
		{ID: gallery, Type: "Microsoft.Compute/galleries", Name: "gal"},
		{ID: gallery + "/images/" + name, Type: "Microsoft.Compute/galleries/images", Name: name},
	} {
		props, err := json.Marshal(Object{"osType": "Linux", "osState": "Generalized", "hyperVGeneration": generation})
		if err != nil {
			l.Fatal(err)
		}
		r.Location, r.Properties = Location, props
		if _, _, err := l.Engine.Resources().Put(l.Context(), r, resource.Condition{}); err != nil {
			l.Fatal(err)
		}
	}
}

// Everything lists the ids of all resources but groups, galleries and image
// definitions, which a request may make before it is refused.
func (l *Lab) Everything() []string {
	l.Helper()
	all, _, err := l.Engine.Resources().List(l.Context(), resource.Query{Scope: "/subscriptions/" + l.Engine.Subscription()})
	if err != nil {
		l.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		switch r.Type {
		case "Microsoft.Resources/resourceGroups", "Microsoft.Compute/galleries", "Microsoft.Compute/galleries/images":
		default:
			ids = append(ids, r.ID)
		}
	}
	return ids
}
