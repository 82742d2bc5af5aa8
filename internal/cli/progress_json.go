package cli

import (
	"context"
	"encoding/json"
	"io"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// jsonProgress writes an event per line.
type jsonProgress struct {
	out     io.Writer
	options ProgressOptions
}

// Show implements Progress.
func (p *jsonProgress) Show(ctx context.Context, events <-chan event.Event) error {
	interrupts, stop := p.options.interrupts()
	defer stop()
	return eachEvent(ctx, events, interrupts, func(e event.Event) error {
		line, err := json.Marshal(e)
		if err != nil {
			return arm.Errorf(arm.CodeInternal, "cannot print event %d as JSON: %w", e.Offset, err)
		}
		_, err = p.out.Write(append(line, '\n'))
		return err
	}, func(n int) error {
		p.options.OnInterrupt(n)
		return nil
	})
}
