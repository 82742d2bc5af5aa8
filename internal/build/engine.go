// Package build is the engine: it submits image templates, works their runs
// phase by phase, undoes what a run acquired, and cleans up after runs whose
// process died.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/catalog"
	"goldsmith/internal/distribute"
	"goldsmith/internal/document"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/layer"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
	"goldsmith/internal/proxyvm"
	"goldsmith/internal/queue"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

// DefaultBootTimeout is how long a booted guest may take to be ready unless
// Config says otherwise.
const DefaultBootTimeout = 10 * time.Minute

// Other defaults of Config.
const (
	defaultRestoreTimeout  = time.Minute
	defaultPowerOffTimeout = 5 * time.Minute
)

// Config configures an Engine.
type Config struct {
	Data string // data directory; made, for its owner alone, when missing

	// Hypervisor finds what runs the build VMs, and says how for people. It is
	// called when a machine is needed first: probing costs time.
	Hypervisor func(ctx context.Context) (h machine.Hypervisor, how string, err error)
	// Host is what one build VM may have at most, and what size names mean.
	Host plan.Host
	// Fetch configures downloads and artifact fetches.
	Fetch artifact.Config
	// BlobSuffix is the service's own domain of storage accounts, with its port
	// if that is not 443; "" for none beside the public cloud's.
	BlobSuffix string
	// BlobAccess decides whether a template's identity may read a private blob of
	// the data directory's own accounts; nil allows it.
	BlobAccess BlobAuthorizer
	// Tokens issues tokens of the identities that a template gives to its build
	// VM; nil refuses such templates.
	Tokens imds.Tokens
	// Egress is what build VMs may reach outside.
	Egress network.Egress
	// Bridges are the subnets that are on bridges of the host.
	Bridges []BridgedSubnet
	// Guest is what else the builder sets in a guest, during the build only.
	Guest provision.Settings
	// ProxyFiles makes what proxy VMs boot from, in a directory; nil makes the real
	// ones.
	ProxyFiles func(ctx context.Context, dir string) (proxyvm.Files, error)
	// Shipped replaces the catalog's own entries, for tests; nil keeps them.
	Shipped []catalog.Entry
	// Makers make platform images that have a recipe instead of a download.
	Makers map[string]catalog.Maker

	BootTimeout     time.Duration // until a booted guest is ready; 0 is DefaultBootTimeout
	RestoreTimeout  time.Duration // until a restored guest answers; 0 is 1 min
	PowerOffTimeout time.Duration // until a generalized guest is off; 0 is 5 min
	// Locations are the directories of the image stores of locations, by name, that
	// do not share the data directory's.
	Locations map[string]string
	// MemoryCost is what saving a guest's memory is taken to cost; 0 is 2 s, and then
	// what each run measures.
	MemoryCost time.Duration
	// Space tells what the file system of a directory has; nil asks the kernel.
	Space func(dir string) (Space, error)
	// Minute is what one minute of buildTimeoutInMinutes lasts, for tests; 0 is a
	// minute.
	Minute time.Duration
	// Observe sees the events of every run that this engine works; nil is nobody.
	Observe event.Sink
	// Logger takes what goes wrong in the service and no client waits for; nil is
	// nowhere.
	Logger *slog.Logger
}

// Engine works on one data directory. Several engines, of several processes, may
// do so at the same time; each works only its own runs.
type Engine struct {
	dir          string
	subscription string
	tenant       string

	db        *store.DB
	resources resource.Store
	runs      run.Store
	locks     queue.Locks
	queue     *queue.Queue
	layers    layer.Index
	files     *layer.Files
	images    *image.Store
	locations map[string]*image.Store // by region
	catalog   *catalog.Catalog
	fetcher   *artifact.Fetcher
	frozen    *artifact.Store
	blobs     *blob.Accounts
	accounts  *account.Directory
	publisher *distribute.Publisher
	access    *authorization.Authorizer

	templates templateLocks
	pending   *pendingTemplates
	stager    chan struct{} // held by who makes a staging group
	bell      bell
	logger    *slog.Logger
	slots     atomic.Int64 // builds that Serve works side by side, 0 when it does not run
	// secretsOf are the secrets of this process's runs: map[string][]byte by run id.
	secretsOf sync.Map
	// imageOf are the images of runs that this process worked: string by run id.
	imageOf sync.Map

	cfg Config
	vms hypervisor
	// Digests of what the builder puts into a guest, as parts of layer keys.
	seedDigest, settingsDigest string

	bootTimeout, restoreTimeout, powerOffTimeout time.Duration
}

// Open opens the data directory. Close the Engine when done.
func Open(ctx context.Context, cfg Config) (_ *Engine, err error) {
	dir, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("open the data directory: %w", err)
	}
	for _, d := range []string{"", "runs", "locks", "disks", "downloads", proxyDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "make the data directory %s: %w", dir, err)
		}
	}
	e := &Engine{
		dir: dir, cfg: cfg, vms: hypervisor{find: cfg.Hypervisor}, pending: newPending(), stager: make(chan struct{}, 1),
		bootTimeout:     orDefault(cfg.BootTimeout, DefaultBootTimeout),
		restoreTimeout:  orDefault(cfg.RestoreTimeout, defaultRestoreTimeout),
		powerOffTimeout: orDefault(cfg.PowerOffTimeout, defaultPowerOffTimeout),
	}
	if e.cfg.Space == nil {
		e.cfg.Space = spaceOf
	}
	if e.logger = cfg.Logger; e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.db, err = store.Open(ctx, filepath.Join(dir, "goldsmith.db")); err != nil {
		return nil, err
	}
	e.resources, e.runs, e.layers = e.db.Resources(), e.db.Runs(), e.db.Layers()
	e.access = authorization.Open(e.db)
	if e.files, err = layer.NewFiles(filepath.Join(dir, "layers"), e.layers); err != nil {
		return nil, err
	}
	if e.images, err = image.Open(filepath.Join(dir, "images")); err != nil {
		return nil, err
	}
	if e.frozen, err = artifact.OpenStore(filepath.Join(dir, "artifacts")); err != nil {
		return nil, err
	}
	if e.fetcher, err = artifact.New(cfg.Fetch); err != nil {
		return nil, err
	}
	if e.blobs, err = blob.OpenDir(filepath.Join(dir, "blobs"), vhdRenderer{e.images}); err != nil {
		return nil, err
	}
	e.accounts = account.NewDirectory(e.resources)
	if e.catalog, err = e.openCatalog(); err != nil {
		return nil, err
	}
	if e.locations, err = openLocations(cfg.Locations); err != nil {
		return nil, err
	}
	e.publisher = &distribute.Publisher{Resources: e.resources, Blobs: vhdBlobs{e.blobs}, Locations: replicator{e, event.Discard}, Now: time.Now}
	if err := e.nameInputs(); err != nil {
		return nil, err
	}
	settings, err := e.db.Settings(ctx)
	if err != nil {
		return nil, err
	}
	e.subscription, e.tenant = settings.SubscriptionID, settings.TenantID
	e.locks = queue.Locks{Dir: filepath.Join(dir, "runs")}
	if e.queue, err = queue.New(e.db.Writer(), e.runs, e.locks, e.work, queue.Options{Logger: cfg.Logger}); err != nil {
		return nil, err
	}
	return e, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// buildTimeout is how long a run may take whose template says d.
func (e *Engine) buildTimeout(d time.Duration) time.Duration {
	if e.cfg.Minute == 0 {
		return d
	}
	return d / time.Minute * e.cfg.Minute
}

// Close releases the data directory.
func (e *Engine) Close() error {
	var errs []error
	if e.fetcher != nil {
		e.fetcher.Close()
	}
	if e.blobs != nil {
		errs = append(errs, e.blobs.Close())
	}
	if e.access != nil {
		errs = append(errs, e.access.Close())
	}
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	return errors.Join(errs...)
}

// Subscription is the id of the subscription that local templates live in.
func (e *Engine) Subscription() string { return e.subscription }

// Catalog is the catalog of platform images.
func (e *Engine) Catalog() *catalog.Catalog { return e.catalog }

// Runs is the store of runs.
func (e *Engine) Runs() run.Store { return e.runs }

// StorageAccounts finds those accounts with their keys.
func (e *Engine) StorageAccounts() *account.Directory { return e.accounts }

// Resources is the store of resources.
func (e *Engine) Resources() resource.Store { return e.resources }

// Documents opens a collection of documents of the data directory.
func (e *Engine) Documents(collection string) document.Store { return e.db.Documents(collection) }

// inputs is what planning needs beside the template.
func (e *Engine) inputs(t *imagetemplate.Template, base plan.Base, artifacts map[string]plan.Artifact, values map[string]plan.Value) (plan.Inputs, error) {
	texts, err := e.texts(artifacts, values)
	return plan.Inputs{
		Egress: egressText(e.cfg.Egress), Tenant: e.tenant, Values: values, Texts: texts,
		Base: base, Artifacts: artifacts, Host: e.cfg.Host, Network: e.networkMode(t), Seed: e.seedDigest, Settings: e.settingsDigest,
	}, err
}

// egressText is what guests may reach beyond the policy, the same for equal rules.
func egressText(e network.Egress) string {
	var allowed []string
	for _, p := range e.Allow {
		allowed = append(allowed, p.Masked().String())
	}
	slices.Sort(allowed)
	return strings.Join(slices.Compact(allowed), ",")
}

// freezer freezes artifacts of t, whose relative paths start at dir.
func (e *Engine) freezer(t *imagetemplate.Template, dir string, sink event.Sink) *artifact.Freezer {
	return &artifact.Freezer{Fetcher: e.fetcher, Store: e.frozen, Dir: dir, Own: e.ownBlobs(t), Revalidate: true, Sink: sink}
}

// nameInputs makes the digests of all that the builder puts into a guest.
func (e *Engine) nameInputs() (err error) {
	if e.seedDigest, err = provision.SeedDigest(); err != nil {
		return err
	}
	settings, err := json.Marshal(e.cfg.Guest)
	if err != nil {
		return fmt.Errorf("encode the guest settings: %w", err)
	}
	e.settingsDigest = hexDigest(settings)
	return nil
}

// makeSeed makes the seed disk of a guest that boots.
func makeSeed() ([]byte, error) {
	helper, err := provision.HelperBinary()
	if err != nil {
		return nil, err
	}
	return provision.Seed(provision.SeedConfig{Helper: helper})
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// newNetwork makes the private network of one machine.
func (e *Engine) newNetwork(cfg network.Config) (network.Network, error) {
	return network.NewPrivate(cfg)
}

// baseRelative is how an overlay in a layer's directory names the base disk of
// a stored image.
func (e *Engine) baseRelative(digest string) string {
	return filepath.Join("..", "..", "disks", digest+".raw")
}

// baseDisk makes the raw disk of a stored image present for machines.
func (e *Engine) baseDisk(ctx context.Context, digest string, progress func(done, total int64)) error {
	path := filepath.Join(e.dir, "disks", digest+".raw")
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		return os.Chtimes(path, now, now) // its last use, for garbage collection
	}
	unlock, err := e.lock(ctx, "disk-"+digest, nil)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	d, err := image.ParseDigest(digest)
	if err != nil {
		return err
	}
	if err := e.images.RenderRaw(ctx, d, path, progress); err != nil {
		return fmt.Errorf("render the base disk: %w", err)
	}
	return os.Chmod(path, 0o444)
}

// layerDir is a layer's directory relative to the data directory.
func (e *Engine) layerDir(id string) string { return filepath.Join("layers", id) }

// lock takes a lock among all processes of the data directory. waiting, which
// may be nil, is called when somebody else holds it.
func (e *Engine) lock(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	l := flock.New(filepath.Join(e.dir, "locks", name))
	ok, err := l.TryLock()
	if err == nil && !ok {
		if waiting != nil {
			waiting()
		}
		_, err = l.TryLockContext(ctx, 50*time.Millisecond)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
	}
	if err != nil {
		return nil, fmt.Errorf("take the lock %s: %w", name, err)
	}
	return func() { _ = l.Unlock() }, nil // closing the file releases it in any case
}

// AllowEgress parses ranges that guests may reach although policy denies them.
func AllowEgress(cidrs []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(strings.TrimSpace(c))
		if err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "%q is not an address range such as 10.1.0.0/16: %w", c, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// Database is the database of the data directory, which Close closes.
func (e *Engine) Database() *store.DB { return e.db }

// Blobs are the storage accounts of the data directory, which Close closes.
func (e *Engine) Blobs() *blob.Accounts { return e.blobs }
