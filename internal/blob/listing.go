package blob

import (
	"context"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// listAttempts bounds how often a list starts again because a file vanished
// while it was made.
const listAttempts = 100

// objects lists what lies under prefix in bucket's order. The walk of a directory
// fails as a whole when a file that it has seen is renamed or removed before it
// looks closer, which writers do with their temporary files all the time: the
// list is then made anew. The error is the bucket's.
func objects(ctx context.Context, bucket *blob.Bucket, prefix string) ([]*blob.ListObject, error) {
	for attempt := 1; ; attempt++ {
		all, err := listOnce(ctx, bucket, prefix)
		if err == nil || attempt == listAttempts || gcerrors.Code(err) != gcerrors.NotFound || ctx.Err() != nil {
			return all, err
		}
	}
}

func listOnce(ctx context.Context, bucket *blob.Bucket, prefix string) ([]*blob.ListObject, error) {
	// Every page costs a walk of the whole directory, so pages are large.
	const page = 200_000
	var all []*blob.ListObject
	for token := blob.FirstPageToken; ; {
		objects, next, err := bucket.ListPage(ctx, token, page, &blob.ListOptions{Prefix: prefix})
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
		if len(next) == 0 {
			return all, nil
		}
		token = next
	}
}
