package ssh

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"goldsmith/internal/arm"
)

// Upload writes content to dest, or into dest under name when dest is a
// directory. What is there already is replaced; the parent must exist. A file
// that could not be written whole is removed. Errors are arm.Errors whose target
// is the path in the guest: CodeStepFailed when the guest refuses,
// CodeGuestLost when the connection broke, or ctx's cause.
func (s *Session) Upload(ctx context.Context, content io.Reader, name, dest string, mode uint32) error {
	if dest == "" || strings.ContainsRune(dest, 0) {
		return arm.Errorf(arm.CodeStepFailed, "the destination in the guest is empty or has a zero byte")
	}
	if name != path.Base(name) || name == "." || name == ".." || name == "/" {
		return arm.Errorf(arm.CodeStepFailed, "%q is no file name", name).At(dest)
	}
	ended := make(chan error, 1)
	files := make(chan *sftp.Client, 1)
	if !s.spawn(func() {
		client, err := s.takeFiles()
		if err != nil {
			ended <- s.refusal(err, "the guest offers no file transfer: is its sftp-server installed?", dest)
			return
		}
		files <- client
		err = s.transfer(ctx, client, content, name, dest, mode)
		if err == nil && ctx.Err() == nil {
			s.keepFiles(client)
		} else {
			_ = client.Close()
		}
		ended <- err
	}) {
		return s.gone(errClosed)
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// Closing the channel fails whatever the transfer waits for.
	select {
	case client := <-files:
		s.spawn(func() { _ = client.Close() })
	default:
	}
	return context.Cause(ctx)
}

// takeFiles is a channel for files: the one that the last upload left, if the
// guest's end of it still answers, because starting another takes an emulated
// guest half a second.
func (s *Session) takeFiles() (*sftp.Client, error) {
	s.mu.Lock()
	kept := s.files
	s.files = nil
	s.mu.Unlock()
	if kept != nil {
		if _, err := kept.Lstat("/"); err == nil {
			return kept, nil
		}
		_ = kept.Close() // a step may have ended it
	}
	return sftp.NewClient(s.client, sftp.UseConcurrentWrites(true))
}

// keepFiles leaves a channel for the next upload.
func (s *Session) keepFiles(client *sftp.Client) {
	s.mu.Lock()
	if s.files == nil && !s.closed {
		s.files, client = client, nil
	}
	s.mu.Unlock()
	if client != nil {
		_ = client.Close()
	}
}

// transfer does the work of Upload on its own channel.
func (s *Session) transfer(ctx context.Context, client *sftp.Client, content io.Reader, name, dest string, mode uint32) error {
	target := dest
	info, err := client.Stat(dest)
	switch {
	case err == nil && info.IsDir():
		target = path.Join(dest, name)
	case err == nil && strings.HasSuffix(dest, "/"):
		return arm.Errorf(arm.CodeStepFailed, "%s is not a directory", strings.TrimSuffix(dest, "/")).At(dest)
	case err != nil && strings.HasSuffix(dest, "/"):
		return arm.Errorf(arm.CodeStepFailed, "the directory %s does not exist in the guest: make it in an earlier step", dest).At(dest)
	}
	_, err = client.Lstat(target)
	fresh := errors.Is(err, fs.ErrNotExist)
	file, err := client.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		if parent := path.Dir(target); errors.Is(err, fs.ErrNotExist) {
			return arm.Errorf(arm.CodeStepFailed, "the directory %s does not exist in the guest: make it in an earlier step: %w", parent, err).At(target)
		}
		return s.refusal(err, "the guest cannot write this file", target)
	}
	_, err = file.ReadFrom(interruptible{ctx, content})
	if err == nil {
		err = file.Chmod(os.FileMode(mode).Perm())
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		return nil
	}
	if fresh {
		_ = client.Remove(target)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if full(client, path.Dir(target)) {
		return arm.Errorf(arm.CodeStepFailed, "the guest's disk is full: give the image a larger osDiskSizeGB: %w", err).At(target)
	}
	return s.refusal(err, "the file could not be written in the guest", target)
}

// refusal tells a guest that says no from a connection that is gone.
func (s *Session) refusal(err error, text, target string) error {
	var status *sftp.StatusError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return arm.Errorf(arm.CodeStepFailed, "%s, because the build user may not: write it below /tmp and move it with sudo in a later step: %w", text, err).At(target)
	case broken(err):
		return s.gone(err)
	case errors.As(err, &status):
		return arm.Errorf(arm.CodeStepFailed, "%s: %w", text, err).At(target)
	}
	s.mu.Lock()
	over := s.closed || s.lost != nil
	s.mu.Unlock()
	if over {
		return s.gone(err)
	}
	return arm.Errorf(arm.CodeStepFailed, "%s: %w", text, err).At(target)
}

// broken reports whether err is the connection's and not the guest's answer.
func broken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, sftp.ErrSSHFxConnectionLost) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// full reports whether a file system has no room: SFTP has no status for that
// (statvfs@openssh.com).
func full(client *sftp.Client, dir string) bool {
	if _, ok := client.HasExtension("statvfs@openssh.com"); !ok {
		return false
	}
	s, err := client.StatVFS(dir)
	return err == nil && (s.Bavail == 0 || s.Favail == 0 && s.Files > 0)
}

// interruptible ends reading when its context does.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}
