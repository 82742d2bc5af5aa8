package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"goldsmith/internal/event"
)

const (
	liveFrame = 100 * time.Millisecond // between two frames of the spinner
	liveBatch = 512                    // events per update, so that floods of output cost one frame
)

// liveProgress is the view of a terminal: it redraws itself in place while the
// run lasts and leaves the summary on the screen.
type liveProgress struct {
	out     io.Writer
	options ProgressOptions
	model   func(*outline) tea.Model
}

// newLiveProgress makes the renderer for the terminal out.
func newLiveProgress(out io.Writer, o ProgressOptions) *liveProgress {
	return &liveProgress{out: out, options: o, model: func(o *outline) tea.Model {
		return newLiveView(o, liveStyle())
	}}
}

// Show implements Progress.
//
// The terminal stays in its line mode (bubbletea gets no input), so Ctrl-C
// reaches this process, and the children in its group, as the signal it is.
// When the view ends before the events do (a second interrupt, or a fault of
// the view), plain lines show the rest.
func (p *liveProgress) Show(ctx context.Context, events <-chan event.Event) error {
	interrupts, stop := p.options.interrupts()
	defer stop()
	o := &outline{}
	rest, err := p.live(ctx, o, events, interrupts)
	if err == nil {
		s := liveStyle()
		_, err = io.WriteString(p.colours(), o.remarks(s)+o.summary(s, p.options.LogCommand))
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w := newPlainWriter(p.out, p.options)
	w.outline = o
	if rest.interrupt > 0 {
		err = w.interrupted(rest.interrupt)
	} else {
		_, err = fmt.Fprintf(p.out, "the live view ended (%v): plain lines follow\n", err)
	}
	for _, e := range rest.events {
		if err == nil && e.Offset >= o.next {
			err = w.event(e)
		}
	}
	if err == nil && !rest.closed {
		err = eachEvent(ctx, events, interrupts, w.event, w.interrupted)
	}
	if err != nil {
		return err
	}
	return w.finish()
}

// colours is the output with the colours that it cannot show stripped.
func (p *liveProgress) colours() io.Writer {
	return colorprofile.NewWriter(p.out, p.options.Env)
}

// remainder is what the live view leaves to do when it ends early.
type remainder struct {
	events    []event.Event // taken from the channel, perhaps not shown
	closed    bool          // the channel has closed
	interrupt int           // the interrupt that ended the view, 0 for none
}

// live runs the view on o until the events end. With an error it ended early.
func (p *liveProgress) live(ctx context.Context, o *outline, events <-chan event.Event, interrupts <-chan int) (remainder, error) {
	restore, err := muteEcho(p.out)
	if err != nil {
		return remainder{}, err
	}
	defer restore()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	program := tea.NewProgram(p.model(o),
		tea.WithContext(ctx), tea.WithOutput(p.out), tea.WithInput(nil),
		tea.WithEnvironment(p.options.Env), tea.WithoutSignalHandler())
	fed := make(chan remainder, 1)
	go func() {
		rest := p.feed(ctx, program, events, interrupts)
		if rest.interrupt > 0 {
			cancel()
		}
		fed <- rest
	}()
	_, err = program.Run()
	cancel()
	rest := <-fed
	return rest, err
}

// feed sends events, interrupts and the time to program until the events end or
// ctx does.
func (p *liveProgress) feed(ctx context.Context, program *tea.Program, events <-chan event.Event, interrupts <-chan int) remainder {
	frames := time.NewTicker(liveFrame)
	defer frames.Stop()
	var batch []event.Event
	for {
		select {
		case <-ctx.Done():
			return remainder{events: batch}
		case now := <-frames.C:
			program.Send(liveTick(now))
		case n := <-interrupts:
			if n > 1 {
				return remainder{events: batch, interrupt: n}
			}
			program.Send(liveInterrupt(n))
			p.options.OnInterrupt(n)
		case e, ok := <-events:
			if !ok {
				program.Send(liveOver{})
				program.Quit()
				return remainder{events: batch, closed: true}
			}
			batch = append([]event.Event{e}, pending(events, liveBatch-1)...)
			program.Send(liveEvents(batch))
		}
	}
}

// pending takes up to n events that are there already.
func pending(events <-chan event.Event, n int) []event.Event {
	var taken []event.Event
	for range n {
		select {
		case e, ok := <-events:
			if !ok {
				return taken // the next receive sees it closed, too
			}
			taken = append(taken, e)
		default:
			return taken
		}
	}
	return taken
}

// liveOver clears the view, to make place for the summary.
type liveOver struct{}

// liveTick is the time of a frame.
type liveTick time.Time

// liveInterrupt is the nth interrupt.
type liveInterrupt int

// liveEvents are new events, oldest first.
type liveEvents []event.Event

// Init implements tea.Model.
func (v *liveView) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (v *liveView) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width, v.height = msg.Width, msg.Height
	case liveOver:
		v.over = true
	case liveTick:
		v.tick(time.Time(msg))
	case liveInterrupt:
		v.notice = interruptNotice(int(msg))
	case liveEvents:
		for _, e := range msg {
			v.outline.apply(terminalEvent(e))
		}
	}
	return v, nil
}

// View implements tea.Model.
func (v *liveView) View() tea.View {
	view := tea.NewView(strings.Join(v.lines(), "\n"))
	// Nothing is read from the terminal, so ask it for nothing.
	view.DisableBracketedPasteMode = true
	return view
}
