package helper

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"goldsmith/internal/provision/protocol"
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
	return ready, nil
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
