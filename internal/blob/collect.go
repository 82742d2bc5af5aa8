package blob

import (
	"context"
	"errors"
	"strings"
	"time"

	"gocloud.dev/blob"

	"goldsmith/internal/arm"
)

// StagedAge is how long a staged block is kept, as in the Blob service.
const StagedAge = 7 * 24 * time.Hour

// Collect removes content that is no blob's and was written before age ago:
// staged blocks that were never committed, and what killed writers left. It runs
// beside writers.
func (a *Accounts) Collect(ctx context.Context, now time.Time, age time.Duration) (removed int, bytes int64, err error) {
	all, err := objects(ctx, a.content, "s/")
	if err != nil {
		return 0, 0, fault("list content", "", err)
	}
	old := map[string][]*blob.ListObject{} // by the blob's key
	for _, o := range all {
		if now.Sub(o.ModTime) > age {
			i := strings.LastIndex(o.Key, "/")
			old[o.Key[:i]] = append(old[o.Key[:i]], o)
		}
	}
	var errs []error
	for key, objects := range old {
		named, err := a.named(ctx, key)
		if err != nil {
			errs = append(errs, err) // one damaged record keeps its content only
			continue
		}
		for _, o := range objects {
			if named[o.Key] {
				continue
			}
			if err := a.content.Delete(ctx, o.Key); err != nil {
				errs = append(errs, fault("remove content", o.Key, err))
				continue
			}
			removed, bytes = removed+1, bytes+o.Size
		}
	}
	return removed, bytes, errors.Join(errs...)
}

// named are the keys of the segments that the record of a blob names. key is
// that of their directory.
func (a *Accounts) named(ctx context.Context, key string) (map[string]bool, error) {
	names := map[string]bool{}
	parts := strings.SplitN(key, "/", 4) // s, account, container, blob
	if len(parts) < 4 {
		return names, nil
	}
	name, ok := decodeKey(strings.TrimSuffix(parts[3], segmentDir))
	if !ok {
		return names, nil // no blob has this key
	}
	n := Name{Account: parts[1], Container: parts[2], Blob: name}
	// Under the lock no blob is about to name what it does not name yet; its
	// commit looks whether all of its content is there.
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec, err := a.load(ctx, n)
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return nil, err
	}
	for _, s := range rec.Segments {
		names[key+"/"+s.Name] = true
	}
	return names, nil
}
