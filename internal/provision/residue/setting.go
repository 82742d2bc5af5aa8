package residue

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"goldsmith/internal/provision/protocol"
)

// Where settings of the build go. The first kind are files of their own, the
// second get a marked block, the third have their archives' addresses rewritten.
const (
	aptProxyFile = "etc/apt/apt.conf.d/99goldsmith-build"
	sudoersFile  = "etc/sudoers.d/goldsmith-build"
	debianCAFile = "usr/local/share/ca-certificates/goldsmith-build.crt"
	redHatCAFile = "etc/pki/ca-trust/source/anchors/goldsmith-build.pem"
)

var (
	settingFiles = []string{aptProxyFile, sudoersFile, debianCAFile, redHatCAFile}
	blockFiles   = []string{"etc/environment", "etc/dnf/dnf.conf", "etc/yum.conf"}
	sourceFiles  = []string{"etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources", "etc/yum.repos.d/*.repo"}
)

const (
	blockBegin = "# goldsmith-build begin\n"
	blockEnd   = "# goldsmith-build end\n"
)

// Settle applies settings to the guest's files, after taking back those of an
// earlier call. It reports whether the trusted certificates changed, so that the
// guest's own tool must renew their bundle.
func Settle(root *os.Root, s protocol.Settings) (trust bool, err error) {
	for _, value := range []string{s.HTTPProxy, s.HTTPSProxy, s.NoProxy} {
		if strings.ContainsAny(value, "\"\\\n\r ") {
			return false, fmt.Errorf("%q is no proxy setting", value)
		}
	}
	trust, err = Unsettle(root)
	if err != nil {
		return trust, err
	}
	if err := writeProxies(root, s); err != nil {
		return trust, err
	}
	if s.CACertificates != "" {
		for _, name := range []string{debianCAFile, redHatCAFile} {
			if info, err := root.Stat(path.Dir(name)); err != nil || !info.IsDir() {
				continue
			}
			if err := root.WriteFile(name, []byte(s.CACertificates), 0o644); err != nil {
				return trust, err
			}
			trust = true
		}
	}
	if len(s.Mirrors) == 0 {
		return trust, nil
	}
	record, err := ReadRecord(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return trust, err
	}
	record.Mirrors = s.Mirrors
	// First the record: a crash between the two must not lose the way back.
	return trust, errors.Join(record.Write(root), redirect(root, s.Mirrors))
}

// writeProxies writes the proxies where each program looks for them.
func writeProxies(root *os.Root, s protocol.Settings) error {
	var environment, apt []string
	for _, v := range []struct{ name, value string }{{"http_proxy", s.HTTPProxy}, {"https_proxy", s.HTTPSProxy}, {"no_proxy", s.NoProxy}} {
		if v.value != "" {
			environment = append(environment, v.name+"=\""+v.value+"\"", strings.ToUpper(v.name)+"=\""+v.value+"\"")
		}
	}
	if environment == nil {
		return nil
	}
	if s.HTTPProxy != "" {
		apt = append(apt, `Acquire::http::Proxy "`+s.HTTPProxy+`";`)
	}
	if s.HTTPSProxy != "" {
		apt = append(apt, `Acquire::https::Proxy "`+s.HTTPSProxy+`";`)
	}
	keep := `Defaults env_keep += "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"`
	var errs []error
	for _, f := range []struct {
		name, text string
		mode       fs.FileMode
	}{
		{aptProxyFile, strings.Join(apt, "\n") + "\n", 0o644},
		{sudoersFile, keep + "\n", 0o440},
	} {
		if info, err := root.Stat(path.Dir(f.name)); err == nil && info.IsDir() {
			errs = append(errs, root.WriteFile(f.name, []byte(f.text), f.mode))
		}
	}
	for _, name := range blockFiles {
		lines := environment
		if name != "etc/environment" {
			if s.HTTPProxy == "" {
				continue
			}
			lines = []string{"proxy=" + s.HTTPProxy}
		}
		text, err := readBounded(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			err = rewrite(root, name, text+blockBegin+strings.Join(lines, "\n")+"\n"+blockEnd)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Unsettle takes everything back that Settle did, and leaves what a customizer
// changed in the same files meanwhile. It reports as Settle does.
func Unsettle(root *os.Root) (trust bool, err error) {
	var errs []error
	for _, name := range settingFiles {
		switch err := root.Remove(name); {
		case err == nil:
			trust = trust || name == debianCAFile || name == redHatCAFile
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	for _, name := range blockFiles {
		text, err := readBounded(root, name)
		if err != nil {
			continue
		}
		if without := withoutBlock(text); without != text {
			errs = append(errs, rewrite(root, name, without))
		}
	}
	record, err := ReadRecord(root)
	if err == nil && len(record.Mirrors) > 0 {
		back := map[string]string{}
		for from, to := range record.Mirrors {
			back[to] = from
		}
		errs = append(errs, redirect(root, back))
		record.Mirrors = nil
		errs = append(errs, record.Write(root))
	}
	return trust, errors.Join(errs...)
}

// withoutBlock cuts the marked blocks out of a file.
func withoutBlock(text string) string {
	for {
		before, rest, ok := strings.Cut(text, blockBegin)
		if !ok {
			return text
		}
		_, after, _ := strings.Cut(rest, blockEnd)
		text = before + after
	}
}

// redirect rewrites the addresses of package archives, longer prefixes first so
// that "…/debian-security" is not taken for "…/debian".
func redirect(root *os.Root, mirrors map[string]string) error {
	prefixes := slices.SortedFunc(maps.Keys(mirrors), func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(prefixes))
	for _, from := range prefixes {
		if from == "" || mirrors[from] == "" {
			return errors.New("a package mirror needs a prefix and what to replace it with")
		}
		pairs = append(pairs, from, mirrors[from])
	}
	replace := strings.NewReplacer(pairs...)
	var errs []error
	for _, pattern := range sourceFiles {
		names, err := fs.Glob(root.FS(), pattern)
		errs = append(errs, err)
		for _, name := range names {
			text, err := readBounded(root, name)
			if err == nil && replace.Replace(text) != text {
				err = rewrite(root, name, replace.Replace(text))
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
