package provision

import (
	"bytes"
	"context"
	"io"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/guest"
	"goldsmith/internal/provision/protocol"
)

// DeprovisionPath is where a template may put its own deprovisioning script with
// a customizer.
const DeprovisionPath = "/" + protocol.DeprovisionFile

// DefaultDeprovision is the script at DeprovisionPath unless a customizer
// replaces it: the one of the real service. The guest helper puts it there before
// the first customizer.
const DefaultDeprovision = protocol.Deprovision

// missingDeprovision is the real service's warning.
const missingDeprovision = "Deprovisioning script [" + DeprovisionPath + "] could not be found. Image build may fail or the VM created from the Image may not boot. Please make sure the deprovisioning script is not accidentally deleted by a Customizer in the Template."

// maxDeprovision is how much of the script is read to tell it from the default.
const maxDeprovision = 64 << 10

// Deprovision runs the script at DeprovisionPath as root, with its output in
// stdout and stderr. Without a script, or with the default one in a guest that
// has no Azure agent (Ready.Waagent), it only warns: what Helper.Generalise
// removes afterwards is then all that is. A script that fails is a
// CodeStepFailed.
func Deprovision(ctx context.Context, s guest.Session, waagent bool, events event.Sink, stdout, stderr io.Writer) error {
	var script bytes.Buffer
	// Starting sudo takes an emulated guest half a second, and the default script is
	// the build user's.
	const read = "head -c 65536 " + DeprovisionPath
	exit, err := s.Run(ctx, read+" || sudo -n "+read, &bounded{&script}, io.Discard)
	if err != nil {
		return err
	}
	if exit != 0 {
		events.Emit(event.Event{Kind: event.Warning, Text: missingDeprovision, Target: DeprovisionPath})
		return nil
	}
	if script.String() == DefaultDeprovision && !waagent {
		events.Emit(event.Event{Kind: event.Warning, Text: "the base image has no Azure agent (waagent): the image is generalised by this program's own list alone"})
		return nil
	}
	command := "sudo -n sh " + DeprovisionPath
	if strings.HasPrefix(script.String(), "#!") {
		command = "sudo -n chmod 0755 " + DeprovisionPath + " && sudo -n " + DeprovisionPath
	}
	exit, err = s.Run(ctx, command, stdout, stderr)
	if err != nil {
		return err
	}
	if exit != 0 {
		return arm.Errorf(arm.CodeStepFailed, "the deprovisioning script ended with exit status %d: see its output", exit).At(DeprovisionPath)
	}
	return nil
}

// bounded keeps the first maxDeprovision bytes: the guest decides what it sends.
type bounded struct{ b *bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxDeprovision - b.b.Len(); room > 0 {
		b.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
