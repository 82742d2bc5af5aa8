package build

import "goldsmith/internal/event"

// observed is the sink of a run with whoever observes all runs behind it.
func (e *Engine) observed(sink event.Sink, id string, r *event.Redactor) event.Sink {
	if e.cfg.Observe == nil {
		return sink
	}
	return tee(sink, event.SinkFunc(func(ev event.Event) {
		ev.Run = id
		ev.Text = r.Redact(ev.Text)
		if ev.Err != nil {
			failure := *ev.Err
			failure.Message = r.Redact(failure.Message)
			ev.Err = &failure
		}
		e.cfg.Observe.Emit(ev)
	}))
}
