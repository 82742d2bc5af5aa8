package helper

import (
	"context"
	"encoding/json"
	"errors"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

// Ready waits until systemd has nothing left to start, which includes every
// stage of cloud-init.
func (l *Linux) Ready(ctx context.Context) (protocol.Ready, error) {
	// The exit status is that of the state: anything but running is 1.
	out, err := run(ctx, "systemctl", "is-system-running", "--wait")
	state := strings.TrimSpace(out)
	if ctx.Err() != nil {
		return protocol.Ready{}, context.Cause(ctx)
	}
	if !slices.Contains([]string{"running", "degraded", "maintenance", "starting"}, state) {
		return protocol.Ready{}, err
	}
	ready := protocol.Ready{State: state, Errors: l.cloudErrors()}
	if state == "degraded" {
		out, _ := run(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full")
		for line := range strings.Lines(out) {
			if fields := strings.Fields(line); len(fields) > 0 {
				ready.Failed = append(ready.Failed, fields[0])
			}
		}
	}
	_, err = find("waagent")
	ready.Waagent = err == nil
	l.welcome(ctx, &ready)
	return ready, nil
}

// welcome prepares what the build user's first commands need, so that the saved
// guest has it and no build waits for it: the default generalise commands, and
// what a first login starts, which takes seconds without hardware acceleration.
func (l *Linux) welcome(ctx context.Context, ready *protocol.Ready) {
	account, err := user.Lookup(protocol.BuildUser)
	if err != nil {
		return // Identify says so
	}
	if err := l.placeDeprovision(account); err != nil {
		ready.Errors = append(ready.Errors, "the default deprovisioning script could not be placed: "+err.Error())
	}
	_, _ = run(ctx, "systemctl", "start", "user@"+account.Uid+".service") // else the login does it
	// It outlives the rehearsal's login, and every other one.
	if _, err := l.root.Stat(path.Dir(residue.Linger)); err == nil {
		if err := l.root.WriteFile(residue.Linger, nil, 0o644); err != nil {
			ready.Errors = append(ready.Errors, "the build user's manager ends with its login: "+err.Error())
		}
	}
	// The clock of a restored guest jumps: everything that is due daily would run at
	// once, and what keeps the clock would ask the network for the time, beside the
	// first step of every build. The builder sets the clock.
	_, _ = run(ctx, "systemctl", append([]string{"stop", "*.timer"}, clockUnits...)...)
	if ready.Waagent {
		_, _ = run(ctx, "waagent", "-version") // reads its files, for when it generalises
	}
}

// clockUnits keep the clock in one distribution or another. The image's next boot
// starts them as ever.
var clockUnits = []string{"systemd-timesyncd.service", "chrony.service", "chronyd.service", "ntp.service", "ntpsec.service", "ntpd.service", "openntpd.service"}

// placeDeprovision puts the default generalise commands where customizers may
// replace them.
func (l *Linux) placeDeprovision(owner *user.User) error {
	uid, err1 := strconv.Atoi(owner.Uid)
	gid, err2 := strconv.Atoi(owner.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return errors.Join(
		l.root.WriteFile(protocol.DeprovisionFile, []byte(protocol.Deprovision), 0o755),
		l.root.Chmod(protocol.DeprovisionFile, 0o755),
		l.root.Lchown(protocol.DeprovisionFile, uid, gid),
	)
}

// cloudErrors are the errors that cloud-init wrote down at the end of its last
// stage.
func (l *Linux) cloudErrors() []string {
	text, err := l.root.ReadFile("run/cloud-init/result.json")
	if err != nil {
		return nil // no cloud-init: nothing of it can have failed
	}
	var result struct {
		V1 struct {
			Errors []string `json:"errors"`
		} `json:"v1"`
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return []string{"malformed /run/cloud-init/result.json: " + err.Error()}
	}
	return result.V1.Errors
}
