package build

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
)

// blobSuffix is the domain of the storage accounts' addresses.
const blobSuffix = "core.windows.net"

// blobEndpoint is the address of an account's blobs.
func blobEndpoint(account string) string { return "https://" + account + ".blob." + blobSuffix + "/" }

// vhdBlobs publishes images as VHD blobs.
type vhdBlobs struct{ accounts *blob.Accounts }

// PutImage implements distribute.Blobs.
func (v vhdBlobs) PutImage(ctx context.Context, account, container, name, digest string, diskBytes int64) (string, error) {
	if err := v.accounts.CreateContainer(ctx, account, container); err != nil && !arm.IsCode(err, arm.CodeConflict) {
		return "", err
	}
	n := blob.Name{Account: account, Container: container, Blob: name}
	_, err := v.accounts.PutReference(ctx, n, blob.Reference{Format: "vhd", Image: digest, Size: image.VHDSize(diskBytes)}, false)
	if err != nil {
		return "", err
	}
	return n.URI(blobSuffix), nil
}

// Locate implements distribute.Blobs.
func (v vhdBlobs) Locate(uri string) (account, container, name string, err error) {
	n, err := blob.ParseURI(blobSuffix, uri)
	return n.Account, n.Container, n.Blob, err
}

// vhdRenderer renders VHD blobs from the image store.
type vhdRenderer struct{ images *image.Store }

// Render implements blob.Renderer.
func (r vhdRenderer) Render(ctx context.Context, ref blob.Reference, offset, length int64) (io.ReadCloser, error) {
	if ref.Format != "vhd" {
		return nil, arm.Errorf(arm.CodeCorrupt, "a blob refers to an image as %q", ref.Format)
	}
	digest, err := image.ParseDigest(ref.Image)
	if err != nil {
		return nil, err
	}
	img, err := r.images.OpenImage(ctx, digest)
	if err != nil {
		return nil, err
	}
	view, err := img.VHD()
	if err != nil {
		_ = img.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(view, offset, length), img}, nil
}

// Of a run's log blob.
const (
	logContainer = "packerlogs"
	logBlob      = "customization.log"
	checkBlob    = "validation.log"
	logInterval  = 5 * time.Second
)

// buildLog writes a run's events as customization.log and validation.log have
// them, with the markers that scripts look for.
type buildLog struct {
	run      string
	out      *blob.LogWriter
	redactor *event.Redactor
}

// openLog makes the log blob of a run in its staging account.
func (e *Engine) openLog(ctx context.Context, account, runID, name string, redactor *event.Redactor) (*buildLog, error) {
	if err := e.blobs.CreateContainer(ctx, account, logContainer); err != nil && !arm.IsCode(err, arm.CodeConflict) {
		return nil, err
	}
	w, err := blob.NewLogWriter(context.WithoutCancel(ctx), e.blobs, blob.Name{Account: account, Container: logContainer, Blob: runID + "/" + name}, logInterval)
	if err != nil {
		return nil, err
	}
	return &buildLog{run: runID, out: w, redactor: redactor}, nil
}

// Emit implements event.Sink. Trouble with the log does not stop a build; Close
// reports it.
func (c *buildLog) Emit(e event.Event) {
	stream, text := "OUT", ""
	switch e.Kind {
	case event.StepStarted:
		text = fmt.Sprintf("(telemetry) Starting provisioner %s", strings.ToLower(e.Text))
	case event.StepFinished:
		text = fmt.Sprintf("(telemetry) ending %s after %s", e.StepName, e.Elapsed.Round(time.Millisecond))
	case event.StepCached:
		text = fmt.Sprintf("==> build: %s: %s", e.StepName, e.Text)
	case event.Output:
		text = "    build: " + e.Text
	case event.PhaseStarted:
		text = "==> build: " + string(e.Phase)
	case event.RunFinished:
		text = "(telemetry) Finalizing. - This run took " + e.Elapsed.Round(time.Second).String() + ": " + e.State
	case event.Connection:
		text = fmt.Sprintf("==> build: outside connection %s %s: %d bytes sent, %d received", e.Target, e.Text, e.Done, e.Total)
	case event.Progress, event.PhaseFinished, event.Topology:
		return
	default:
		text = "==> build: " + e.Text
	}
	if e.Stream == "stderr" || e.Err != nil {
		stream = "ERR"
	}
	if e.Err != nil {
		text += ": " + e.Err.Message
	}
	_, _ = fmt.Fprintf(c.out, "[%s] PACKER %s %s\n", c.run, stream, c.redactor.Redact(text))
}

// Close publishes the rest of the log.
func (c *buildLog) Close() error { return c.out.Close() }

// tee is a sink that passes events on to several.
func tee(sinks ...event.Sink) event.Sink {
	return event.SinkFunc(func(e event.Event) {
		for _, s := range sinks {
			s.Emit(e)
		}
	})
}
