package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/image/vhd"
)

// fileCommands make the files that scripts work on, and look into those that the
// program made.
var fileCommands = map[string]func(*testscript.TestScript, bool, []string){
	"disk":   makeDisk,
	"serve":  serve,
	"field":  field,
	"begins": begins,
	"edit":   edit,
	"events": checkEvents,
	"tree":   tree,
	"normal": normal,
}

const (
	diskBytes = 4 << 20
	dataAt    = 1 << 20
)

// disk KIND FILE makes a small disk image: raw, qcow2, vhd, cut (off after
// the first bytes of a qcow2), evil (an overlay over a file of the host), base, a
// bootable one for the fake machine, or big, 2 GiB of nothing.
func makeDisk(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: disk raw|qcow2|vhd|cut|evil|base|big FILE")
	}
	path := ts.MkAbs(args[1])
	switch args[0] {
	case "base":
		ts.Check(buildtest.WriteBaseDisk(path))
		return
	case "evil":
		ts.Check(qcow2.CreateOverlay(path, diskBytes, qcow2.Backing{Path: "/etc/passwd", Format: "raw"}))
		return
	}
	f, err := os.Create(path)
	ts.Check(err)
	defer f.Close()
	data := bytes.Repeat([]byte("gold"), 1024)
	switch args[0] {
	case "big":
		ts.Check(f.Truncate(2 << 30)) // a hole
	case "raw", "vhd":
		ts.Check(f.Truncate(diskBytes))
		_, err = f.WriteAt(data, dataAt)
		ts.Check(err)
	case "cut":
		_, err = f.WriteString("QFI\xfb\x00\x00\x00\x03")
		ts.Check(err)
	case "qcow2":
		w, err := qcow2.NewWriter(f, diskBytes, []disk.Extent{{Start: dataAt, Length: 64 << 10}}, nil)
		ts.Check(err)
		_, err = w.WriteAt(data, dataAt)
		ts.Check(err)
	default:
		ts.Fatalf("no kind of disk is called %q", args[0])
	}
	if args[0] == "vhd" {
		footer, err := vhd.NewFixed(diskBytes, [16]byte{1}, time.Unix(1e9, 0))
		ts.Check(err)
		_, err = f.WriteAt(footer.Bytes(), diskBytes)
		ts.Check(err)
	}
}

// serve VAR DIR serves a directory over HTTP until the script ends, and sets VAR
// to its address.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: serve VAR DIR")
	}
	server := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// field VAR FILE PATH sets VAR to a value of a JSON file ("stdout" for the last
// output); PATH is names and indices joined by dots.
func field(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: field VAR FILE PATH")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	for part := range strings.SplitSeq(args[2], ".") {
		switch c := v.(type) {
		case map[string]any:
			v = c[part]
		case []any:
			i, err := strconv.Atoi(part)
			ts.Check(err)
			if i >= len(c) {
				ts.Fatalf("%s has no element %d in %s", args[1], i, args[2])
			}
			v = c[i]
		default:
			ts.Fatalf("nothing is at %s in %s", part, args[1])
		}
	}
	if v == nil {
		ts.Fatalf("nothing is at %s in %s", args[2], args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// begins VAR TEXT N sets VAR to the first N bytes of TEXT, in upper case, because
// names compare without case.
func begins(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: begins VAR TEXT N")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Setenv(args[0], strings.ToUpper(args[1][:n]))
}

// edit FROM TO OLD NEW copies a file with every OLD replaced by NEW, of which
// there must be one.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: edit FROM TO OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[2]) {
		ts.Fatalf("%s does not contain %s", args[0], args[2])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.ReplaceAll(text, args[2], args[3])), 0o644))
}

// events FILE checks that every line is an event of one run, without unknown
// fields, and that offsets have no gaps. It prints kind, phase or step, and state.
func checkEvents(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: events FILE")
	}
	run := ""
	var next int64
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var e event.Event
		lines := json.NewDecoder(strings.NewReader(line))
		lines.DisallowUnknownFields()
		if err := lines.Decode(&e); err != nil {
			ts.Fatalf("line %d is not an event: %v: %s", next+1, err, line)
		}
		if run == "" {
			run = e.Run
		}
		if e.Offset != next || e.Run != run || e.Run == "" || e.Time.IsZero() || e.Kind == "" {
			ts.Fatalf("event %d of run %s: %s", next, run, line)
		}
		next++
		fmt.Fprintln(ts.Stdout(), strings.Join(strings.Fields(fmt.Sprint(e.Kind, " ", e.Phase, " ", e.StepName, " ", e.State)), " "))
	}
	if next == 0 {
		ts.Fatalf("there are no events")
	}
}

// tree DIR prints a directory's name and the regular files below it.
func tree(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: tree DIR")
	}
	root := ts.MkAbs(args[0])
	fmt.Fprintln(ts.Stdout(), args[0]+":")
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			path, _ = filepath.Rel(root, path)
			fmt.Fprintln(ts.Stdout(), path)
		}
		return err
	}))
}

// varying is what differs from one build to the next, and what stands for it.
var varying = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `), "TIME "},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "GUID"},
	{regexp.MustCompile(`\bimage [0-9a-f]{12}\b`), "image ID"},
	{regexp.MustCompile(`\b\d+ (chunks|of them|new)\b`), "N $1"},
	{regexp.MustCompile(`\b\d+(\.\d+)?m?s\b`), "N s"},
	{regexp.MustCompile(`(?m)^.*: \d+% of .*\n`), ""}, // how often depends on speed
	{regexp.MustCompile(`(?m) +N s$`), " N s"},
}

// normal FILE replaces what differs from one build to the next: times, ids and
// the script's directory; lines of progress go.
func normal(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: normal FILE")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), ts.Getenv("WORK"), "WORK")
	for _, v := range varying {
		text = v.what.ReplaceAllString(text, v.as)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}
