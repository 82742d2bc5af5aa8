package qmp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/machine/qmp"
	"goldsmith/internal/machine/qmp/qmptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect starts a server and a client of it; both end with the test.
func connect(t *testing.T, handler qmptest.Handler) (*qmptest.Server, *qmp.Client, *qmp.Subscription) {
	t.Helper()
	server, conn := serve(t, handler)
	client, events, err := qmp.NewClient(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, client, events
}

func serve(t *testing.T, handler qmptest.Handler) (*qmptest.Server, *net.UnixConn) {
	t.Helper()
	server, conn, err := qmptest.Pair(handler)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return server, conn
}

func echo(_ *qmptest.Server, c qmptest.Command) (any, error) {
	var args map[string]any
	if c.Args != nil {
		c.Decode(&args)
	}
	return args, nil
}

func TestExecuteMatchesRepliesToCommands(t *testing.T) {
	_, client, _ := connect(t, echo)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var got struct{ N int }
			if err := client.Execute(t.Context(), "echo", map[string]int{"N": i}, &got); err != nil || got.N != i {
				t.Errorf("command %d got %d, %v", i, got.N, err)
			}
		})
	}
	wg.Wait()
}

func TestExecuteReportsRefusals(t *testing.T) {
	_, client, _ := connect(t, func(server *qmptest.Server, c qmptest.Command) (any, error) {
		if c.Name == "device_del" {
			return nil, &qmptest.Refusal{Class: "DeviceNotFound", Desc: "Device 'x' not found"}
		}
		return nil, errors.New("no")
	})
	err := client.Execute(t.Context(), "device_del", map[string]string{"id": "x"}, nil)
	var refusal *qmp.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v", err)
	}
	want := &qmp.Error{Command: "device_del", Class: "DeviceNotFound", Desc: "Device 'x' not found"}
	if diff := cmp.Diff(want, refusal); diff != "" {
		t.Error(diff)
	}
	if !qmp.IsClass(err, "DeviceNotFound") || qmp.IsClass(err, "GenericError") {
		t.Error("IsClass does not tell classes apart")
	}
	if err := client.Execute(t.Context(), "stop", nil, nil); !qmp.IsClass(err, "GenericError") {
		t.Errorf("got %v", err)
	}
}

func TestContextEndsACall(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	_, client, _ := connect(t, func(server *qmptest.Server, c qmptest.Command) (any, error) {
		if c.Name == "hang" {
			close(held)
			<-release
		}
		return nil, nil
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("user went home")
	go func() { <-held; cancel(reason) }()
	if err := client.Execute(ctx, "hang", nil, nil); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	close(release)
	// The late reply must not be taken for that of the next command.
	if err := client.Execute(t.Context(), "next", nil, nil); err != nil {
		t.Errorf("connection is unusable after a cancelled call: %v", err)
	}
	if err := client.Execute(ctx, "late", nil, nil); !errors.Is(err, reason) {
		t.Errorf("call with an ended context: %v", err)
	}
}

func TestContextEndsAWriteToADeafServer(t *testing.T) {
	release, deaf := make(chan struct{}), make(chan struct{})
	_, c, _ := connect(t, func(*qmptest.Server, qmptest.Command) (any, error) {
		close(deaf)
		<-release
		return nil, nil
	})
	defer close(release)
	first, forget := context.WithCancel(t.Context())
	forgotten := make(chan struct{})
	go func() { defer close(forgotten); c.Execute(first, "deafen", nil, nil) }()
	defer func() { forget(); <-forgotten }()
	<-deaf
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	big := map[string]string{"data": strings.Repeat("x", 1<<20)}
	if err := c.Execute(ctx, "big", big, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	after, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Execute(after, "after", nil, nil); err == nil || errors.Is(err, context.DeadlineExceeded) && after.Err() != nil {
		t.Errorf("a command followed half a command: %v", err)
	}
}

func TestFilesTravel(t *testing.T) {
	received := make(chan string, 1)
	_, client, _ := connect(t, func(server *qmptest.Server, c qmptest.Command) (any, error) {
		if c.File == nil {
			return nil, errors.New("no file supplied")
		}
		defer c.File.Close()
		if _, err := io.WriteString(c.File, "from the server"); err != nil {
			return nil, err
		}
		received <- c.Name
		return nil, nil
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := client.ExecuteFile(t.Context(), "getfd", map[string]string{"fdname": "x"}, nil, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	content, err := io.ReadAll(r)
	if err != nil || string(content) != "from the server" {
		t.Errorf("read %q, %v", content, err)
	}
	if got := <-received; got != "getfd" {
		t.Errorf("file came with %q", got)
	}
	if err := client.Execute(t.Context(), "getfd", nil, nil); err == nil {
		t.Error("the file stayed for the next command")
	}
}

func TestNoEventIsLost(t *testing.T) {
	const n = 1000
	_, client, all := connect(t, func(server *qmptest.Server, c qmptest.Command) (any, error) {
		for i := range n {
			name := "EVEN"
			if i%2 == 1 {
				name = "ODD"
			}
			if err := server.Emit(name, map[string]int{"i": i}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	odd := client.Subscribe("ODD")
	defer odd.Close()
	if err := client.Execute(t.Context(), "flood", nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e, err := all.Next(t.Context())
		if err != nil || string(e.Data) != fmt.Sprintf(`{"i":%d}`, i) {
			t.Fatalf("event %d: %s, %v", i, e.Data, err)
		}
	}
	type data struct{ I int }
	got, err := qmp.Await(t.Context(), odd, func(d data) bool { return d.I > 600 })
	if err != nil || got.I != 601 {
		t.Errorf("awaited %v, %v", got, err)
	}
}

func TestDisconnectFailsEverything(t *testing.T) {
	_, client, events := connect(t, func(server *qmptest.Server, c qmptest.Command) (any, error) {
		if err := server.Emit("LAST", nil); err != nil {
			return nil, err
		}
		server.Close()
		return nil, nil
	})
	err := client.Execute(t.Context(), "die", nil, nil)
	if !errors.Is(err, io.EOF) {
		t.Errorf("call: %v", err)
	}
	<-client.Done()
	if e, err := events.Next(t.Context()); err != nil || e.Name != "LAST" {
		t.Errorf("event before the end: %v, %v", e, err)
	}
	if _, err := events.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("event after the end: %v", err)
	}
	if err := client.Execute(t.Context(), "again", nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("call after the end: %v", err)
	}
	if _, err := client.Subscribe().Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("subscription after the end: %v", err)
	}
}

func TestCloseFailsWaiters(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	held := make(chan struct{})
	_, client, events := connect(t, func(server *qmptest.Server, _ qmptest.Command) (any, error) { close(held); <-release; return nil, nil })
	failed := make(chan error, 2)
	go func() { failed <- client.Execute(t.Context(), "hang", nil, nil) }()
	go func() { _, err := events.Next(t.Context()); failed <- err }()
	<-held
	client.Close()
	for range 2 {
		if err := <-failed; !errors.Is(err, qmp.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestHostileServers(t *testing.T) {
	for name, line := range map[string]string{
		"not json":         `hello`,
		"no form":          `{"x": 1}`,
		"two forms":        `{"return": {}, "event": "X"}`,
		"too long":         `{"return": "` + strings.Repeat("x", qmp.MaxMessage) + `"}`,
		"error without id": `{"error": {"class": "GenericError", "desc": "what?"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, client, _ := connect(t, func(server *qmptest.Server, _ qmptest.Command) (any, error) {
				// The client may close before it has read everything.
				_ = server.Write(line)
				return nil, nil
			})
			if err := client.Execute(t.Context(), "x", nil, nil); err == nil {
				t.Error("no error")
			}
			<-client.Done()
		})
	}
}

func TestEventFloodEndsTheConnection(t *testing.T) {
	_, client, _ := connect(t, func(server *qmptest.Server, _ qmptest.Command) (any, error) {
		for range 10000 {
			if server.Emit("NOISE", nil) != nil {
				break
			}
		}
		return nil, nil
	})
	err := client.Execute(t.Context(), "flood", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "keep up") {
		t.Errorf("got %v", err)
	}
}

func TestNoGreeting(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	server, conn, err := qmptest.Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, _, err := qmp.NewClient(ctx, conn); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	server2, conn2, err := qmptest.Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	server2.Close()
	if _, _, err := qmp.NewClient(t.Context(), conn2); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestUnencodableArguments(t *testing.T) {
	_, client, _ := connect(t, echo)
	var syntax *json.UnsupportedTypeError
	if err := client.Execute(t.Context(), "x", func() {}, nil); !errors.As(err, &syntax) {
		t.Errorf("got %v", err)
	}
	var wrong []int
	if err := client.Execute(t.Context(), "x", map[string]int{"a": 1}, &wrong); err == nil {
		t.Error("a reply of another type decoded")
	}
}
