package qemu_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"goldsmith/internal/machine/qmp/qmptest"
)

// script is what a fake QEMU does otherwise than a healthy one. It finds it as
// script.json in its working directory, and notes there, in the file commands,
// what it is asked to do.
type script struct {
	Refuse map[string]string // commands and the server's sentence
	Die    string            // the command of which it dies with exit code 1
	Hang   string            // the command that it answers only once the next run removes this
	Signal int               // the signal that kills it after cont
	Event  string            // an event after cont
	Data   json.RawMessage
	Deaf   int    // how many requests to unplug the guest misses
	Early  string // what it says before it exits at its start
}

// fakeQEMU is a QEMU without a machine.
type fakeQEMU struct {
	script script
	log    *os.File
	nodes  []map[string]any
	top    string
	state  *os.File
	pause  bool // the next migration stops before the switch-over
	late   int  // how often it still says that a migration is not finalized
}

// isFakeQEMU reports that the test binary was started in QEMU's place.
func isFakeQEMU() bool {
	return len(os.Args) > 1 && (os.Args[1] == "-no-user-config" || os.Args[1] == "--version")
}

// runFakeQEMU is main of a fake QEMU.
func runFakeQEMU() {
	if os.Args[1] == "--version" {
		fmt.Println("QEMU emulator version 0 (fake)")
		os.Exit(0)
	}
	q := &fakeQEMU{top: "d0"}
	if err := q.serve(); err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (q *fakeQEMU) serve() (err error) {
	if text, err := os.ReadFile("script.json"); err == nil {
		if err := json.Unmarshal(text, &q.script); err != nil {
			return err
		}
	}
	if q.script.Early != "" {
		return errors.New(q.script.Early)
	}
	if q.log, err = os.Create("commands"); err != nil {
		return err
	}
	for i, arg := range os.Args {
		var node map[string]any
		if arg == "-blockdev" && json.Unmarshal([]byte(os.Args[i+1]), &node) == nil {
			q.nodes = append(q.nodes, node)
		}
	}
	fmt.Fprintln(os.NewFile(5, "console"), "booting")
	conn, err := net.FileConn(os.NewFile(3, "monitor"))
	if err != nil {
		return err
	}
	return qmptest.New(conn.(*net.UnixConn), q.handle).Serve()
}

func (q *fakeQEMU) handle(s *qmptest.Server, c qmptest.Command) (any, error) {
	fmt.Fprintln(q.log, c.Name)
	if c.Name == q.script.Die {
		fmt.Fprintln(os.Stderr, "fake: struck by lightning")
		os.Exit(1)
	}
	if desc, ok := q.script.Refuse[c.Name]; ok {
		return nil, errors.New(desc)
	}
	if c.Name == q.script.Hang {
		q.script.Hang = ""
		_ = syscall.Pause() // in the kernel, so that the runtime sees no deadlock
	}
	var args map[string]any
	if c.Args != nil {
		c.Decode(&args)
	}
	name, _ := args["node-name"].(string)
	switch c.Name {
	case "cont":
		if q.script.Event != "" {
			return nil, s.Emit(q.script.Event, q.script.Data)
		}
		if q.script.Signal != 0 {
			// Go's runtime has handlers of its own; a shell has none.
			return nil, syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("kill -%d $$", q.script.Signal)}, nil)
		}
	case "blockdev-add":
		q.nodes = append(q.nodes, args)
	case "blockdev-del":
		before := len(q.nodes)
		q.nodes = slices.DeleteFunc(q.nodes, func(n map[string]any) bool { return n["node-name"] == name })
		if len(q.nodes) == before {
			return nil, fmt.Errorf("Failed to find node with node-name='%s'", name)
		}
	case "blockdev-snapshot":
		q.top = args["overlay"].(string)
	case "query-named-block-nodes":
		return q.list(), nil
	case "query-block":
		return []any{map[string]any{"qdev": "/machine/peripheral/disk0/virtio-backend", "inserted": map[string]any{"node-name": q.top}}}, nil
	case "device_del":
		if q.script.Deaf > 0 {
			q.script.Deaf--
			return nil, nil
		}
		return nil, s.Emit("DEVICE_DELETED", map[string]any{"device": args["id"], "path": "/"})
	case "getfd":
		if c.File == nil {
			return nil, errors.New("No file descriptor supplied via SCM_RIGHTS")
		}
		q.state = c.File
	case "migrate-set-capabilities":
		text, _ := json.Marshal(args)
		q.pause = strings.Contains(string(text), `"pause-before-switchover","state":true`)
	case "query-status":
		if q.late > 0 {
			q.late--
			return map[string]any{"status": "finish-migrate"}, nil
		}
		return map[string]any{"status": "postmigrate"}, nil
	case "migrate":
		fmt.Fprint(q.state, "state")
		if q.pause {
			return nil, s.Emit("MIGRATION", map[string]string{"status": "pre-switchover"})
		}
		return nil, s.Emit("MIGRATION", map[string]string{"status": "completed"})
	case "migrate-continue":
		q.late = 3
		return nil, s.Emit("MIGRATION", map[string]string{"status": "completed"})
	case "migrate-incoming":
		return nil, s.Emit("MIGRATION", map[string]string{"status": "completed"})
	case "quit", "system_powerdown":
		guest := c.Name == "system_powerdown"
		return qmptest.Reply{Then: func() {
			if err := s.Emit("SHUTDOWN", map[string]any{"guest": guest, "reason": "x"}); err == nil {
				s.Close()
			}
		}}, nil
	}
	return nil, nil
}

// list is the nodes as the monitor tells them. Every overlay file holds the name
// of its backing file.
func (q *fakeQEMU) list() (list []any) {
	files := make(map[any]string)
	for _, n := range q.nodes {
		if path, ok := n["filename"].(string); ok {
			files[n["node-name"]] = path
			continue
		}
		file, _ := n["file"].(string)
		image := map[string]any{"virtual-size": 1 << 20}
		if text, err := os.ReadFile(files[file]); err == nil && len(text) > 0 {
			image["full-backing-filename"] = filepath.Join(filepath.Dir(files[file]), strings.TrimSpace(string(text)))
		}
		list = append(list, map[string]any{"node-name": n["node-name"], "image": image})
	}
	return list
}
