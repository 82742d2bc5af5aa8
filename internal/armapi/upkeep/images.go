package upkeep

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/image/format"
)

// images are those that the caller may read.
func (u upkeep) images(ctx context.Context, r *armapi.Request, _ Input) ([]build.Image, error) {
	all, err := u.engine.Images(ctx)
	if err != nil {
		return nil, err
	}
	out := []build.Image{}
	for _, i := range all {
		if ok, err := r.Sees(ctx, i.Type+"/read", i.ID); err != nil {
			return nil, err
		} else if ok {
			out = append(out, public(i))
		}
	}
	return out, nil
}

// public is an image without what only the service knows.
func public(i build.Image) build.Image {
	i.Internal, i.Properties = nil, nil
	return i
}

func (u upkeep) image(ctx context.Context, r *armapi.Request, in Input) (build.Image, error) {
	i, err := u.engine.FindImage(ctx, in.Name)
	if err == nil {
		err = see(ctx, r, i.Record, in.Name)
	}
	return public(i), err
}

// named is what a request asks for, and the image that it names.
func (u upkeep) named(ctx context.Context, r *armapi.Request) (in Input, i build.Image, err error) {
	if err = r.Decode(&in); err == nil {
		i, err = u.image(ctx, r, in)
	}
	return in, i, err
}

// export answers with an image as a file of a format.
func (u upkeep) export(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	in, i, err := u.named(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	name := "image" + in.Format
	if _, err := format.Of(name); err != nil {
		return armapi.Response{}, err
	}
	if name != filepath.Base(name) || in.Format != filepath.Ext(name) {
		return armapi.Response{}, arm.Errorf(arm.CodeUsage, "%.20q is not the extension of a file", in.Format)
	}
	if err := os.MkdirAll(u.scratch, 0o700); err != nil {
		return armapi.Response{}, arm.Errorf(arm.CodeInternal, "make room for an export: %w", err)
	}
	dir, err := os.MkdirTemp(u.scratch, exportPrefix)
	if err != nil {
		return armapi.Response{}, arm.Errorf(arm.CodeInternal, "make room for an export: %w", err)
	}
	f, err := u.exported(ctx, i, filepath.Join(dir, name))
	// The open file needs no name: it goes with whoever reads it.
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return armapi.Response{}, err
	}
	return file(f)
}

// exportPrefix begins the names of the directories of exports that are being made.
const exportPrefix = "export-"

// Sweep removes from the directory scratch what exports of a process that died
// left. No service may be running.
func Sweep(scratch string) error {
	left, err := filepath.Glob(filepath.Join(scratch, exportPrefix+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

func (u upkeep) exported(ctx context.Context, i build.Image, path string) (*os.File, error) {
	if err := u.engine.Export(ctx, i.Content.Image, path, func(int64, int64) {}); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// file answers with a file as long as it is now, and closes it.
func file(f *os.File) (armapi.Response, error) {
	info, err := f.Stat()
	if err != nil {
		return armapi.Response{}, errors.Join(err, f.Close())
	}
	return armapi.Response{Status: http.StatusOK, Stream: func(w http.ResponseWriter) error {
		_, err := io.CopyN(w, f, info.Size())
		return errors.Join(err, f.Close())
	}}.With("Content-Type", "application/octet-stream").With("Content-Length", strconv.FormatInt(info.Size(), 10)), nil
}

// boot runs a command in a machine of an image.
func (u upkeep) boot(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	in, i, err := u.named(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if in.Command == "" {
		return armapi.Response{}, arm.Errorf(arm.CodeUsage, "say which command to run in the machine: only the service's host can show its console")
	}
	return stream(ctx, func(ctx context.Context, send func(Frame)) (any, error) {
		options := build.BootOptions{Command: in.Command, Size: in.Size, Stdout: stdout(send), Stderr: stderr(send)}
		return u.engine.Boot(ctx, i.ShortName(), i.Content, options, events(send))
	}), nil
}

// diff says how an image differs from another.
func (u upkeep) diff(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	in, a, err := u.named(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	b, err := u.image(ctx, r, Input{Name: in.Other})
	if err != nil {
		return armapi.Response{}, err
	}
	return stream(ctx, func(ctx context.Context, _ func(Frame)) (any, error) {
		return u.engine.DiffImages(ctx, a, b, in.All)
	}), nil
}
