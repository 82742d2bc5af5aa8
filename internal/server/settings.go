package server

import (
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/identity"
)

// Settings are what an operator says about a service, in one YAML file. The
// zero value of each is its default.
type Settings struct {
	// Listen is the address to serve on; "127.0.0.1:8443" when empty.
	Listen string `yaml:"listen"`
	// URL is what clients reach the service as; "https://localhost:PORT" when empty.
	URL string `yaml:"url"`
	// Names are further host names and addresses of the service.
	Names []string `yaml:"names"`
	// Certificate and Key are PEM files to serve with instead of a certificate of
	// the service's own authority.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// StorageSuffix is the end of storage hosts, ACCOUNT.blob.SUFFIX, with its
	// port; "goldsmith.localhost:PORT" when empty.
	StorageSuffix string `yaml:"storageSuffix"`
	// Domain is a name of the tenant beside its id.
	Domain string `yaml:"domain"`
	// Slots is how many builds run side by side; half of the CPUs when 0.
	Slots int `yaml:"slots"`
	// Issuers are external OpenID Connect issuers whose tokens are accepted.
	Issuers []identity.Issuer `yaml:"issuers"`
	Log     LogSettings       `yaml:"log"`
	Builds  BuildSettings     `yaml:"builds"`
}

// LogSettings say what is logged, and how.
type LogSettings struct {
	Format string `yaml:"format"` // "text" (default) or "json"
	Level  string `yaml:"level"`  // "debug", "info" (default), "warn" or "error"
}

// BuildSettings are what builds may use of the host: the flags of the same names.
type BuildSettings struct {
	Accelerator  string   `yaml:"accelerator"`
	VMSizes      []string `yaml:"vmSizes"`
	Mirrors      []string `yaml:"mirrors"`
	AllowFetch   []string `yaml:"allowFetch"`
	AllowEgress  []string `yaml:"allowEgress"`
	Bridges      []string `yaml:"bridges"`
	CAFile       string   `yaml:"caFile"`
	GuestProxy   bool     `yaml:"guestProxy"`
	GuestCA      bool     `yaml:"guestCA"`
	GuestMirrors []string `yaml:"guestMirrors"`
	BootTimeout  string   `yaml:"bootTimeout"`
}

// DefaultListen is where a service listens that is not told otherwise.
const DefaultListen = "127.0.0.1:8443"

// withDefaults fills in what the operator left out. port is that of the bound
// listener.
func (s Settings) withDefaults(port string) Settings {
	if s.URL == "" {
		s.URL = "https://" + net.JoinHostPort("localhost", port)
	}
	s.URL = strings.TrimRight(s.URL, "/")
	if s.StorageSuffix == "" {
		s.StorageSuffix = net.JoinHostPort("goldsmith.localhost", port)
	}
	if s.Domain == "" {
		s.Domain = "goldsmith.local"
	}
	if s.Slots == 0 {
		s.Slots = max(1, runtime.NumCPU()/2)
	}
	return s
}

// finding is a fault of one setting, by its path in the file.
type finding struct{ path, text string }

// check lists what is wrong with settings.
func (s Settings) check() (out []finding) {
	bad := func(path, text string) { out = append(out, finding{path, text}) }
	if s.Listen != "" {
		if _, _, err := net.SplitHostPort(s.Listen); err != nil {
			bad("listen", "an address is HOST:PORT, such as "+DefaultListen)
		}
	}
	if s.URL != "" {
		u, err := url.Parse(s.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			bad("url", "an address such as https://images.example.org:8443 is needed: https, and no path")
		}
	}
	if (s.Certificate == "") != (s.Key == "") {
		bad("certificate", "certificate and key belong together")
	}
	if s.Slots < 0 || s.Slots > 1000 {
		bad("slots", "the number of builds side by side is 1 to 1000")
	}
	if strings.ContainsAny(s.StorageSuffix, "/ ") {
		bad("storageSuffix", "a suffix is the end of a host name, such as images.example.org:8443")
	}
	switch s.Log.Format {
	case "", "text", "json":
	default:
		bad("log.format", "the format is text or json")
	}
	switch s.Log.Level {
	case "", "debug", "info", "warn", "error":
	default:
		bad("log.level", "the level is debug, info, warn or error")
	}
	if t := s.Builds.BootTimeout; t != "" {
		if d, err := time.ParseDuration(t); err != nil || d <= 0 {
			bad("builds.bootTimeout", "a time is, for example, 20m")
		}
	}
	for i, text := range s.Builds.Bridges {
		if _, err := build.ParseBridgedSubnet(text); err != nil {
			bad("builds.bridges."+itoa(i), "a subnet on a bridge is GROUP/NAME/SUBNET=BRIDGE, such as networks/corp/build=br0")
		}
	}
	for i, issuer := range s.Issuers {
		if err := issuer.Check(); err != nil {
			bad("issuers."+itoa(i), err.Error())
		}
	}
	return out
}

// Environment puts what the environment says in place of what a file says.
func (s *Settings) Environment(getenv func(string) string) error {
	for name, p := range map[string]*string{
		"GOLDSMITH_LISTEN": &s.Listen, "GOLDSMITH_URL": &s.URL, "GOLDSMITH_CERTIFICATE": &s.Certificate, "GOLDSMITH_KEY": &s.Key,
		"GOLDSMITH_STORAGE_SUFFIX": &s.StorageSuffix, "GOLDSMITH_LOG_FORMAT": &s.Log.Format, "GOLDSMITH_LOG_LEVEL": &s.Log.Level,
	} {
		if v := getenv(name); v != "" {
			*p = v
		}
	}
	if v := getenv("GOLDSMITH_SLOTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return arm.Errorf(arm.CodeUsage, "GOLDSMITH_SLOTS is %q, not a number of builds", v)
		}
		s.Slots = n
	}
	return nil
}

// Check says what is wrong with settings; nil when nothing is.
func (s Settings) Check() error {
	var lines []string
	for _, f := range s.check() {
		lines = append(lines, f.path+": "+f.text)
	}
	if len(lines) == 0 {
		return nil
	}
	return arm.Errorf(arm.CodeUsage, "%s", strings.Join(lines, "\n"))
}
