package contents

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// dpkgStatus is where Debian's package manager keeps what is installed.
const dpkgStatus = "/var/lib/dpkg/status"

// maxStatus bounds how much of it is read, in bytes.
const maxStatus = 64 << 20

// packages are the versions of the installed Debian packages by name; empty for
// an image without dpkg.
func (t *tree) packages() (map[string]string, error) {
	f, ok := t.files[dpkgStatus]
	if !ok || !f.node.IsFile() {
		return nil, nil
	}
	p, err := parseStatus(io.LimitReader(f.fs.Content(f.node), maxStatus))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dpkgStatus, err)
	}
	return p, nil
}

// parseStatus reads dpkg's status file. A package of a foreign architecture is
// named with it.
func parseStatus(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	var name, version, arch, status, multi string
	flush := func() {
		if name != "" && strings.HasSuffix(status, " installed") {
			if multi == "same" {
				name += ":" + arch
			}
			out[name] = version
		}
		name, version, arch, status, multi = "", "", "", "", ""
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			flush()
			continue
		}
		key, value, ok := strings.Cut(line, ": ")
		if !ok || line[0] == ' ' {
			continue
		}
		switch key {
		case "Package":
			name = value
		case "Version":
			version = value
		case "Architecture":
			arch = value
		case "Status":
			status = value
		case "Multi-Arch":
			multi = value
		}
	}
	flush()
	return out, lines.Err()
}
