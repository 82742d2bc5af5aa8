package blob

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"goldsmith/internal/arm"
)

// Accounts are storage accounts with their containers. It implements Store. It
// is safe for concurrent use; several processes may share a directory.
type Accounts struct {
	bucket   *blob.Bucket // records, and all that is there
	markers  *blob.Bucket // the same place; writes no metadata file
	content  *blob.Bucket // segments: the same place on a disk, without a metadata file for each
	renderer Renderer
	mu       sync.Mutex
	lockFile string // serialises commits between processes, "" when there is one
}

// OpenDir opens the accounts kept in a directory, which is made when missing.
// renderer opens reference blobs; without one they cannot be read.
func OpenDir(dir string, renderer Renderer) (*Accounts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "open the storage accounts: %w", err).At(dir)
	}
	// Temporary files lie beside their blobs: a rename must not cross devices.
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, DirFileMode: 0o700})
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "open the storage accounts: %w", err).At(dir)
	}
	content, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, DirFileMode: 0o700, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "open the storage accounts: %w", errors.Join(err, bucket.Close())).At(dir)
	}
	return &Accounts{bucket: bucket, markers: content, content: content, renderer: renderer, lockFile: filepath.Join(dir, "lock")}, nil
}

// NewMemory makes empty accounts that live in memory.
func NewMemory(renderer Renderer) *Accounts {
	bucket := memblob.OpenBucket(nil)
	return &Accounts{bucket: bucket, markers: bucket, content: memblob.OpenBucket(nil), renderer: renderer}
}

// Close releases what the accounts hold open.
func (a *Accounts) Close() error { return errors.Join(a.bucket.Close(), a.content.Close()) }

// Accounts and containers exist by a marker, so that an empty one can; blobs lie
// under another root, so that no blob can be taken for a marker, and their
// content under a third.
func accountMarker(account string) string { return "m/" + account + "/.account" }

func containerMarker(account, container string) string {
	return "m/" + account + "/" + markerPrefix + container
}

// markerPrefix tells a container's marker from a temporary file of the bucket.
const markerPrefix = "c."

func blobKey(n Name) string { return "b/" + n.Account + "/" + n.Container + "/" + encodeKey(n.Blob) }

// CreateAccount makes a storage account; CodeConflict when there is one.
func (a *Accounts) CreateAccount(ctx context.Context, account string) error {
	if err := CheckAccount(account); err != nil {
		return err
	}
	return a.mark(ctx, accountMarker(account), "storage account "+account, nil)
}

// HasAccount reports whether there is a storage account.
func (a *Accounts) HasAccount(ctx context.Context, account string) (bool, error) {
	if CheckAccount(account) != nil {
		return false, nil
	}
	err := a.wantAccount(ctx, account)
	if arm.IsCode(err, arm.CodeNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Names lists the storage accounts by name.
func (a *Accounts) Names(ctx context.Context) ([]string, error) {
	markers, err := objects(ctx, a.bucket, "m/")
	if err != nil {
		return nil, fault("list storage accounts", "", err)
	}
	var names []string
	for _, o := range markers {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, "m/"), "/.account"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// DeleteAccount removes a storage account with all that is in it; CodeNotFound.
func (a *Accounts) DeleteAccount(ctx context.Context, account string) error {
	containers, err := a.Containers(ctx, account)
	if err != nil {
		return err
	}
	for _, container := range containers {
		if err := a.DeleteContainer(ctx, account, container); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return err
		}
	}
	return fault("delete storage account", account, a.bucket.Delete(ctx, accountMarker(account)))
}

func (a *Accounts) wantAccount(ctx context.Context, account string) error {
	return a.want(ctx, accountMarker(account), "storage account "+account)
}

func (a *Accounts) wantContainer(ctx context.Context, account, container string) error {
	return a.want(ctx, containerMarker(account, container), "container "+account+"/"+container)
}

func (a *Accounts) want(ctx context.Context, marker, what string) error {
	ok, err := a.bucket.Exists(ctx, marker)
	if err != nil {
		return fault("look for", what, err)
	}
	if !ok {
		return arm.Errorf(arm.CodeNotFound, "%s does not exist", what)
	}
	return nil
}

// mark writes a marker that must not be there yet.
func (a *Accounts) mark(ctx context.Context, marker, what string, content []byte) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = a.markers.WriteAll(ctx, marker, content, &blob.WriterOptions{IfNotExist: true, ContentType: defaultType})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return arm.Errorf(arm.CodeConflict, "%s exists already", what)
	}
	return fault("create", what, err)
}

// lock makes a commit exclusive: the bucket looks and renames in two steps.
func (a *Accounts) lock(ctx context.Context) (unlock func(), err error) {
	a.mu.Lock()
	if a.lockFile == "" {
		return a.mu.Unlock, nil
	}
	file := flock.New(a.lockFile, flock.SetPermissions(0o600))
	if _, err := file.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		a.mu.Unlock()
		return nil, fault("lock", a.lockFile, errors.Join(err, file.Close()))
	}
	return func() {
		_ = file.Close() // the commit is made; the lock ends with the file at the latest
		a.mu.Unlock()
	}, nil
}

// fault codes an error of the bucket.
func fault(what, target string, err error) error {
	if err == nil {
		return nil
	}
	code := arm.CodeInternal
	var coded *arm.Error
	switch {
	case errors.As(err, &coded):
		return err
	case gcerrors.Code(err) == gcerrors.NotFound:
		return arm.Errorf(arm.CodeNotFound, "%s: it does not exist: %w", what, err).At(target)
	case gcerrors.Code(err) == gcerrors.FailedPrecondition:
		return arm.Errorf(arm.CodePreconditionFailed, "%s: it exists already: %w", what, err).At(target)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = arm.CodeCanceled
	case errors.Is(err, syscall.ENOSPC):
		code = arm.CodeNoSpace
	}
	return arm.Errorf(code, "%s: %w", what, err).At(target)
}
