package ssh

import (
	"context"
	"io"

	xssh "golang.org/x/crypto/ssh"
)

// Terminal is where a Shell is shown.
type Terminal struct {
	In            io.Reader
	Out, Err      io.Writer
	Type          string        // as in $TERM; "" for a shell without a terminal
	Width, Height int           // in characters
	Resized       <-chan [2]int // new widths and heights; nil for never
}

// Shell runs the user's login shell until it or ctx ends, and returns its exit
// status. A read from t.In may still be waiting when Shell returns.
func (s *Session) Shell(ctx context.Context, t Terminal) (int, error) {
	channel, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	out, err2 := &gate{w: t.Out}, &gate{w: t.Err}
	defer out.shut()
	defer err2.shut()
	channel.Stdout, channel.Stderr = out, err2
	in, err := channel.StdinPipe()
	if err != nil {
		return 0, s.gone(err)
	}
	// The reader of a terminal cannot be interrupted, so it is not waited for.
	go func() {
		_, _ = io.Copy(in, t.In)
		_ = in.Close()
	}()
	if t.Type != "" {
		if err := channel.RequestPty(t.Type, t.Height, t.Width, xssh.TerminalModes{xssh.ECHO: 1}); err != nil {
			return 0, s.gone(err)
		}
	}
	ended := make(chan error, 1)
	if !s.spawn(func() {
		err := channel.Shell()
		if err == nil {
			err = channel.Wait()
		}
		ended <- err
	}) {
		return 0, s.gone(errClosed)
	}
	for {
		select {
		case err := <-ended:
			_ = channel.Close()
			return s.status(err)
		case size := <-t.Resized:
			_ = channel.WindowChange(size[1], size[0]) // the next one may do
		case <-ctx.Done():
			s.kill(channel, ended)
			return 0, context.Cause(ctx)
		}
	}
}
