// Package script tests the command line as its users meet it: every *.txtar is a
// session with the program, which runs as a process of its own.
package script

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/cli"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/guardian"
)

// labVariable names the directory of the fake guests; while it is set the
// program runs its machines on the fake hypervisor.
const labVariable = "LAB_GUESTS"

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

func TestMain(m *testing.M) {
	guardian.Main()
	testscript.Main(m, map[string]func(){"goldsmith": goldsmith})
}

// goldsmith is the program: what cmd/goldsmith does, with another hypervisor if
// the script asks for it.
func goldsmith() {
	signal.Ignore(syscall.SIGPIPE)
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: "test"}
	if guests := os.Getenv(labVariable); guests != "" {
		env.Hypervisor = func(context.Context) (machine.Hypervisor, string, error) {
			return buildtest.Hypervisor(os.Getenv("GOLDSMITH_DATA"), guests), "the fake of the test", nil
		}
	}
	os.Exit(cli.Execute(context.Background(), env, os.Args[1:]))
}

func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Abs("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]func(*testscript.TestScript, bool, []string){}
	maps.Copy(commands, processCommands)
	maps.Copy(commands, fileCommands)
	maps.Copy(commands, serviceCommands)
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Cmds:                commands,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, ".home")
			alone := filepath.Join(e.WorkDir, ".bin") // a PATH with nothing but the program
			guests := filepath.Join(e.WorkDir, ".guests")
			for _, dir := range []string{home, alone, guests} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
			}
			if err := os.Symlink(bin, filepath.Join(alone, "goldsmith")); err != nil {
				return err
			}
			for name, value := range map[string]string{
				"HOME": home, "ALONE": alone, "GUESTS": guests, "EXAMPLES": examples, "DOCS": docs,
				"GOLDSMITH_DATA": filepath.Join(e.WorkDir, "data"), "TZ": "UTC",
				"ZEROS": fmt.Sprintf("%064d", 0),
			} {
				e.Setenv(name, value)
			}
			e.Values[sessionKey{}] = &session{running: map[string]*process{}}
			e.Defer(func() { e.Values[sessionKey{}].(*session).kill() })
			return nil
		},
	})
}
