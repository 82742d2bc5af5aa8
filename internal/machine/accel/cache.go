package accel

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
)

// facts is everything that a result depends on.
type facts struct {
	Schema  int    // of the probe itself
	QEMU    string // its version line
	Host    string // the host kernel's release and build
	CPU     string // digest of model and features
	Access  string // to KVM's device
	Probe   string // digest of the small guest
	Kernel  string // digest of the real kernel; "" without
	Machine string // this host's architecture
}

// schema changes when the way of probing does.
const schema = 1

// gather collects the facts.
func gather(ctx context.Context, config Config) (facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	version, err := Version(ctx, config.QEMU)
	if err != nil {
		return facts{}, err
	}
	cpu, err := hostCPU()
	if err != nil {
		return facts{}, arm.Errorf(arm.CodeMachine, "the host's CPU cannot be read: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return facts{}, arm.Errorf(arm.CodeMachine, "the host's kernel cannot be read: %w", err)
	}
	line, _, _ := strings.Cut(version, "\n")
	sum := sha256.Sum256(probeImage)
	f := facts{
		Schema: schema, QEMU: line, CPU: cpu, Access: access(),
		Host:    unix.ByteSliceToString(uts.Release[:]) + " " + unix.ByteSliceToString(uts.Version[:]),
		Machine: unix.ByteSliceToString(uts.Machine[:]),
		Probe:   hex.EncodeToString(sum[:]),
	}
	if config.Kernel != "" {
		if f.Kernel, err = digestFile(config.Kernel); err != nil {
			return facts{}, arm.Errorf(arm.CodeMachine, "the kernel to probe with: %w", err)
		}
	}
	return f, nil
}

// key is a digest of the facts.
func (f facts) key() string {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and a number
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// hostCPU is a digest of the first CPU's model and features.
func hostCPU() (string, error) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	lines := bufio.NewScanner(f)
	for lines.Scan() && lines.Text() != "" {
		name, _, _ := strings.Cut(lines.Text(), "\t")
		switch name {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "flags":
			io.WriteString(h, lines.Text()+"\n")
		}
	}
	return hex.EncodeToString(h.Sum(nil)), lines.Err()
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cached is the cache file's content.
type cached struct {
	Key    string `json:"key"`
	Result Result `json:"result"`
}

// load reads the result that was stored under key. A cache that cannot be read
// is no cache.
func load(file, key string) (Result, bool) {
	if file == "" {
		return Result{}, false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Result{}, false
	}
	c, err := parseCache(text)
	return c.Result, err == nil && c.Key == key
}

// parseCache decodes a cache file and refuses what Probe could not have written.
func parseCache(text []byte) (cached, error) {
	var c cached
	if err := json.Unmarshal(text, &c); err != nil {
		return cached{}, err
	}
	if a := c.Result.Accelerator; a != KVM && a != TCG || c.Result.CPUModel == "" {
		return cached{}, arm.Errorf(arm.CodeCorrupt, "the accelerator's cache is not valid")
	}
	return c, nil
}

// store keeps r under key.
func store(file, key string, r Result) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(cached{key, r}, "", "\t")
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(text, '\n'), 0o600)
}
