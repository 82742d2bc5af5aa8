package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/build"
	"goldsmith/internal/catalog"
	"goldsmith/internal/catalog/recipe"
	"goldsmith/internal/event"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
	"goldsmith/internal/machine/qemu"
	"goldsmith/internal/network"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
)

// hostFlags say what of this host and its surroundings builds may use.
type hostFlags struct {
	accelerator string
	vmSizes     []string
	mirrors     []string
	allowFetch  []string
	allowEgress []string
	bridges     []string
	caFile      string
	guestProxy  bool
	guestCA     bool
	guestMirror []string
	bootTimeout time.Duration
	locations   []string
}

func (h *hostFlags) register(f *pflag.FlagSet) {
	f.StringVar(&h.accelerator, "accel", "", "run machines by kvm or tcg instead of probing what works")
	f.StringArrayVar(&h.vmSizes, "vm-size", nil, "define a VM size: NAME=VCPUS,MEMORY_MIB (repeatable)")
	f.StringArrayVar(&h.mirrors, "mirror", nil, "serve URLs that begin with PREFIX from elsewhere: PREFIX=DIR-or-URL (repeatable)")
	f.StringArrayVar(&h.allowFetch, "allow-fetch", nil, "fetch from addresses in CIDR although policy refuses them (repeatable)")
	f.StringArrayVar(&h.allowEgress, "allow-egress", nil, "let build machines reach addresses in CIDR although policy refuses them (repeatable)")
	f.StringArrayVar(&h.bridges, "bridge", nil, "put build machines in a subnet on a bridge of the host: GROUP/NAME/SUBNET=BRIDGE (repeatable; needs CAP_NET_ADMIN)")
	f.StringVar(&h.caFile, "ca-file", "", "also trust the certificates in this PEM file when fetching")
	f.BoolVar(&h.guestProxy, "guest-proxy", false, "set this process's proxy (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) in the guest, for the build only")
	f.BoolVar(&h.guestCA, "guest-ca", false, "trust --ca-file in the guest too, for the build only")
	f.StringArrayVar(&h.guestMirror, "guest-mirror", nil, "serve the guest's package archives at URL from elsewhere, for the build only: URL=URL (repeatable)")
	f.StringArrayVar(&h.locations, "location", nil, "keep the images of a region in a store of its own: REGION=DIR (repeatable)")
	f.DurationVar(&h.bootTimeout, "boot-timeout", build.DefaultBootTimeout, "how long a machine may take from its start until it is ready")
}

// withEngine opens the data directory, cleans up after commands that died, and
// runs f.
func (a *app) withEngine(ctx context.Context, f func(*build.Engine) error) (err error) {
	if err := a.onlyHere(); err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	e, err := build.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := e.Close(); err == nil {
			err = cerr
		}
	}()
	interrupted, err := e.Recover(ctx)
	for _, r := range interrupted {
		fmt.Fprintf(a.env.Stderr, "run %.8s of %s was interrupted; what it had acquired is given back\n", r.ID, lastSegment(r.Template))
	}
	if err != nil {
		fmt.Fprintf(a.env.Stderr, "cleaning up after interrupted runs: %v\n", err)
	}
	return f(e)
}

// config is the engine's configuration from flags and environment.
func (a *app) config() (build.Config, error) {
	dir, err := a.dataDir()
	if err != nil {
		return build.Config{}, err
	}
	if a.host.bootTimeout <= 0 {
		return build.Config{}, arm.Errorf(arm.CodeUsage, "--boot-timeout %s is not a time to wait: say, for example, 20m", a.host.bootTimeout)
	}
	cfg := build.Config{
		Data:        dir,
		Hypervisor:  a.hypervisor,
		BootTimeout: a.host.bootTimeout,
		Makers:      map[string]catalog.Maker{"debian-12": a.debian12()},
		Fetch: artifact.Config{
			Local: true, CAFile: a.host.caFile,
			Proxy: &httpproxy.Config{HTTPProxy: a.proxy("HTTP_PROXY"), HTTPSProxy: a.proxy("HTTPS_PROXY"), NoProxy: a.proxy("NO_PROXY")},
		},
	}
	if cfg.Host, err = hostCapacity(a.host.vmSizes); err != nil {
		return cfg, err
	}
	for _, text := range a.host.locations {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" || dir == "" {
			return cfg, arm.Errorf(arm.CodeUsage, "--location %q: give REGION=DIR", text)
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return cfg, fmt.Errorf("--location %s: %w", text, err)
		}
		if cfg.Locations == nil {
			cfg.Locations = map[string]string{}
		}
		cfg.Locations[name] = dir
	}
	for _, m := range a.host.mirrors {
		mirror, err := artifact.ParseMirror(m)
		if err != nil {
			return cfg, err
		}
		cfg.Fetch.Mirrors = append(cfg.Fetch.Mirrors, mirror)
	}
	if cfg.Fetch.Allow, err = prefixes("--allow-fetch", a.host.allowFetch); err != nil {
		return cfg, err
	}
	allow, err := prefixes("--allow-egress", a.host.allowEgress)
	if err != nil {
		return cfg, err
	}
	cfg.Egress = network.Egress{Allow: allow}
	if cfg.Bridges, err = bridges(a.host.bridges); err != nil {
		return cfg, err
	}
	cfg.Guest, err = a.guestSettings()
	return cfg, err
}

// proxy is a proxy variable in either case.
func (a *app) proxy(name string) string {
	if v := a.env.Getenv(name); v != "" {
		return v
	}
	return a.env.Getenv(strings.ToLower(name))
}

// guestSettings is what the user asked to have set inside guests.
func (a *app) guestSettings() (provision.Settings, error) {
	var s provision.Settings
	if a.host.guestProxy {
		s.HTTPProxy, s.HTTPSProxy, s.NoProxy = a.proxy("HTTP_PROXY"), a.proxy("HTTPS_PROXY"), a.proxy("NO_PROXY")
	}
	if a.host.guestCA {
		if a.host.caFile == "" {
			return s, arm.Errorf(arm.CodeUsage, "--guest-ca needs --ca-file FILE")
		}
		pem, err := os.ReadFile(a.host.caFile)
		if err != nil {
			return s, arm.Errorf(arm.CodeUsage, "--ca-file: %w", err)
		}
		s.CACertificates = string(pem)
	}
	for _, m := range a.host.guestMirror {
		from, to, ok := strings.Cut(m, "=")
		if !ok || from == "" || to == "" {
			return s, arm.Errorf(arm.CodeUsage, "--guest-mirror %q is not URL=URL", m)
		}
		if s.Mirrors == nil {
			s.Mirrors = map[string]string{}
		}
		s.Mirrors[from] = to
	}
	return s, nil
}

// bridges parses the subnets that are on bridges of the host, and looks whether they
// can be.
func bridges(list []string) (out []build.BridgedSubnet, err error) {
	seen := map[string]bool{}
	for _, text := range list {
		b, err := build.ParseBridgedSubnet(text)
		if err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "--bridge: %w", err)
		}
		if key := strings.ToLower(b.String()); seen[key] {
			return nil, arm.Errorf(arm.CodeUsage, "--bridge: subnet %v is there twice", b)
		} else {
			seen[key] = true
		}
		if err := b.Check(); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// prefixes parses the address ranges of a flag.
func prefixes(flag string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, c := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(c))
		if err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "%s %q is not an address range such as 10.1.0.0/16: %w", flag, c, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// hostReserveMiB is the memory that a build VM never gets.
const hostReserveMiB = 2048

// hostCapacity is what this host can give to one build VM.
func hostCapacity(sizes []string) (plan.Host, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return plan.Host{}, arm.Errorf(arm.CodeInternal, "read the host's memory: %w", err)
	}
	total := int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	h := plan.Host{CPUs: runtime.NumCPU(), MemoryMiB: max(total-hostReserveMiB, total/2), Sizes: plan.AzureVMSizes()}
	for _, s := range sizes {
		var size plan.VMSize
		name, shape, ok := strings.Cut(s, "=")
		n, err := fmt.Sscanf(shape, "%d,%d", &size.VCPUs, &size.MemoryMiB)
		if size.Name = name; !ok || err != nil || n != 2 || name == "" || size.VCPUs < 1 || size.MemoryMiB < 1 {
			return h, arm.Errorf(arm.CodeUsage, "--vm-size %q is not NAME=VCPUS,MEMORY_MIB", s)
		}
		h.Sizes = h.Sizes.With(size)
	}
	return h, nil
}

// cacheDir keeps what can be made again: the accelerator's probe, base images.
func (a *app) cacheDir() (string, error) {
	if dir := a.env.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "goldsmith"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", arm.Errorf(arm.CodeUsage, "no home directory to cache in: set XDG_CACHE_HOME: %w", err)
	}
	return filepath.Join(home, ".cache", "goldsmith"), nil
}

// hypervisor finds QEMU and probes how it runs guests here, unless the
// environment brings another one.
func (a *app) hypervisor(ctx context.Context) (machine.Hypervisor, string, error) {
	if a.env.Hypervisor != nil {
		return a.env.Hypervisor(ctx)
	}
	installation, err := qemu.Find(qemu.Installation{})
	if err != nil {
		return nil, "", err
	}
	result, err := a.probe(ctx, installation)
	if err != nil {
		return nil, "", err
	}
	return qemu.New(installation, result), fmt.Sprintf("QEMU with %s: %s", result.Accelerator, result.Reason), nil
}

// probe decides how guests run here, or recalls it.
func (a *app) probe(ctx context.Context, installation qemu.Installation) (accel.Result, error) {
	dir, err := a.cacheDir()
	if err != nil {
		return accel.Result{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return accel.Result{}, arm.Errorf(arm.CodeUsage, "make the cache directory: %w", err)
	}
	return accel.Probe(ctx, accel.Config{
		QEMU: installation.QEMU, CacheFile: filepath.Join(dir, "accelerator.json"), Override: a.host.accelerator,
	})
}

// debian12 makes the base image that needs no download. It is kept in the cache
// by what it is made from, for other data directories.
func (a *app) debian12() catalog.Maker {
	return catalog.MakerFunc(func(ctx context.Context, out string, sink event.Sink) error {
		dir, err := a.cacheDir()
		if err != nil {
			return err
		}
		base, err := recipe.Debian12().Base(ctx, filepath.Join(dir, "bases"), recipe.Options{Events: sink})
		if err != nil {
			return err
		}
		if err := os.Symlink(base, out); err != nil { // a name is enough: it is only read
			return arm.Errorf(arm.CodeInternal, "take the base image from the cache: %w", err)
		}
		return nil
	})
}
