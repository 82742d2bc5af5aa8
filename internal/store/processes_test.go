package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

const (
	counterID = "/subscriptions/s/resourceGroups/g/providers/N/t/counter"
	sharedRun = "00000000-0000-4000-8000-000000000001"
	rounds    = 25
)

// child is another process: the test binary started again with a role.
func child(role string) int {
	ctx := context.Background()
	db, err := store.Open(ctx, os.Getenv("STORE_TEST_DB"))
	if err == nil {
		err = map[string]func(context.Context, *store.DB) error{
			"hammer": hammer, "linger": linger, "settings": settings,
		}[role](ctx, db)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := db.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hammer counts in a resource that others count in, and fights for a run.
func hammer(ctx context.Context, db *store.DB) error {
	for n := range rounds {
		_, err := db.Resources().Update(ctx, counterID, func(r *resource.Record) error {
			var count int
			if err := json.Unmarshal(r.Properties, &count); err != nil {
				return err
			}
			r.Properties = json.RawMessage(fmt.Sprint(count + 1))
			return nil
		})
		if err != nil {
			return err
		}
		own := resource.Record{ID: fmt.Sprintf("/subscriptions/s/resourceGroups/%d/providers/N/t/r%d", os.Getpid(), n), Type: "N/t"}
		if _, _, err := db.Resources().Put(ctx, own, resource.Condition{IfNoneMatch: true}); err != nil {
			return err
		}
		// An expired lease: each process takes the run from the other.
		r, err := db.Runs().Acquire(ctx, sharedRun, fmt.Sprint(os.Getpid()), "boot", 0)
		if err != nil {
			return err
		}
		_, err = db.Runs().Update(ctx, sharedRun, r.Epoch, func(r *run.Record) error {
			r.Undo = append(r.Undo, run.Undo{Kind: "epoch", Target: fmt.Sprint(r.Epoch)})
			return nil
		})
		if err != nil && !arm.IsCode(err, arm.CodePreconditionFailed) {
			return err
		}
	}
	return nil
}

// linger commits one resource, starts a transaction that holds a second, says
// so, and waits to be killed.
func linger(ctx context.Context, db *store.DB) error {
	if _, _, err := db.Resources().Put(ctx, resource.Record{ID: "/committed"}, resource.Condition{}); err != nil {
		return err
	}
	tx, err := db.Writer().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `delete from resources`); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	return fmt.Errorf("not killed: %w", err)
}

func settings(ctx context.Context, db *store.DB) error {
	s, err := db.Settings(ctx)
	fmt.Println(s)
	return err
}

func start(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_ROLE="+role, "STORE_TEST_DB="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestProcessesShareOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path)
	ctx := t.Context()
	if _, _, err := db.Resources().Put(ctx, resource.Record{ID: counterID, Properties: json.RawMessage(`0`)}, resource.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Runs().Create(ctx, run.Record{ID: sharedRun}); err != nil {
		t.Fatal(err)
	}
	var children []*exec.Cmd
	for range 2 {
		cmd := start(t, "hammer", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	if err := hammer(ctx, db); err != nil {
		t.Error(err)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	r, err := db.Resources().Get(ctx, counterID)
	if err != nil || string(r.Properties) != fmt.Sprint(3*rounds) {
		t.Errorf("three processes counted to %s, want %d: %v", r.Properties, 3*rounds, err)
	}
	all, _, err := db.Resources().List(ctx, resource.Query{})
	if err != nil || len(all) != 3*rounds+1 {
		t.Errorf("%d resources: %v", len(all), err)
	}
	got, err := db.Runs().Get(ctx, sharedRun)
	if err != nil || got.Epoch != 3*rounds {
		t.Errorf("epoch %d after %d acquisitions: %v", got.Epoch, 3*rounds, err)
	}
	// Writes that came through were made in the order of their epochs.
	last := ""
	for _, u := range got.Undo {
		if len(u.Target) < len(last) || (len(u.Target) == len(last) && u.Target <= last) {
			t.Errorf("epoch %s wrote after epoch %s", u.Target, last)
		}
		last = u.Target
	}
}

func TestProcessesOpenANewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space?and#marks%20.db")
	const n = 3
	seen := make(chan string, n)
	var children []*exec.Cmd
	var outputs []*strings.Builder
	for range n {
		cmd, out := start(t, "settings", path), &strings.Builder{}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children, outputs = append(children, cmd), append(outputs, out)
	}
	for i, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("child: %v", err)
		}
		seen <- outputs[i].String()
	}
	first := <-seen
	if len(first) < 3*36 {
		t.Fatalf("settings %q", first)
	}
	for range n - 1 {
		if next := <-seen; next != first {
			t.Errorf("settings %q and %q", first, next)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the database has mode %v", info.Mode())
	}
}

func TestKillInTheMiddleOfATransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	cmd := start(t, "linger", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
	db := openAt(t, path)
	all, _, err := db.Resources().List(t.Context(), resource.Query{})
	if err != nil || len(all) != 1 || all[0].ID != "/committed" {
		t.Fatalf("after kill -9: %v, %v", all, err)
	}
	if _, _, err := db.Resources().Put(t.Context(), resource.Record{ID: "/next"}, resource.Condition{}); err != nil {
		t.Fatalf("the dead process still holds a lock: %v", err)
	}
}
