package script

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"goldsmith/internal/server"
)

// serviceCommands are about a running service.
var serviceCommands = map[string]func(*testscript.TestScript, bool, []string){
	"alike":      alike,
	"documented": documented,
	"learn":      learn,
	"request":    request,
}

// alike CODE ARGS... runs the program on the data directory and at its service, and
// checks that both end with the code and print the same.
func alike(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: alike CODE ARGS...")
	}
	program := func(flags ...string) string {
		list := append([]string{args[0], "goldsmith"}, flags...)
		exits(ts, false, append(list, args[1:]...))
		return ages.ReplaceAllString(ts.ReadFile("stdout"), " AGE")
	}
	here, there := program(), program("--server", "local")
	if here != there {
		ts.Fatalf("on the data directory:\n%s\nat the service:\n%s", here, there)
	}
}

// ages are how long ago something was, which may differ by the second, and the
// padding before.
var ages = regexp.MustCompile(` +(now|[0-9]+ [a-z]+ ago)\b`)

// documented FILE COUNT runs every goldsmith command that a page of the documentation
// shows, COUNT of them, in its order; all must succeed. RUN stands for the variable of
// that name. The service runs already, az is not there, and neither is what a build of
// the page's own template leaves in its image.
func documented(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: documented FILE COUNT")
	}
	count := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		command, ok := strings.CutPrefix(line, "    goldsmith ")
		if !ok {
			continue
		}
		count++
		command, _, _ = strings.Cut(command, " # ")
		list := strings.Fields(strings.NewReplacer("RUN", ts.Getenv("RUN"), "/etc/golden", "/dev/null").Replace(command))
		switch list[0] {
		case "serve":
			list = append(list, "--check-config")
		case "azure-cli":
			list = append(list, "--print")
		}
		if err := ts.Exec("goldsmith", list...); err != nil {
			ts.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if fmt.Sprint(count) != args[1] {
		ts.Fatalf("%s shows %d commands, not %s", args[0], count, args[1])
	}
}

// learn NAME REGEXP sets a variable to what the first group matches in stdout.
func learn(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: learn NAME REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("nothing in stdout matches %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// request METHOD PATH [FILE] sends a request to the data directory's service, which
// must succeed. SUBSCRIPTION in the path is that of the directory.
func request(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: request METHOD PATH [FILE]")
	}
	data := ts.Getenv("GOLDSMITH_DATA")
	d, err := server.ReadDescription(data)
	ts.Check(err)
	var body []byte
	if len(args) > 2 {
		body = []byte(ts.ReadFile(args[2]))
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return server.DialSocket(ctx, data) }}
	defer transport.CloseIdleConnections()
	path := strings.ReplaceAll(args[1], "SUBSCRIPTION", d.Subscription)
	r, err := http.NewRequestWithContext(context.Background(), args[0], "http://local"+path, bytes.NewReader(body))
	ts.Check(err)
	resp, err := transport.RoundTrip(r)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode >= 300 {
		ts.Fatalf("%s %s: %s: %s", args[0], path, resp.Status, text)
	}
	_, err = fmt.Fprint(ts.Stdout(), string(text))
	ts.Check(err)
}
