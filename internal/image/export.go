package image

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/image/vhd"
)

// Export writes image d to a file of format f at path, replacing what is there.
// raw, fixed VHD and qcow2 are written straight from the chunks; VHDX and VMDK
// need qemu-img. Zeros take no space in the file. The file appears when it is
// complete; after an error or a cancel nothing is left of it. It is not forced
// to the disk, like any copied file.
func (s *Store) Export(ctx context.Context, d Digest, path string, f format.Format, progress Progress) error {
	return s.render(ctx, d, path, false, func(m *Image, out *os.File) error {
		switch f {
		case format.Raw:
			return m.writeRaw(ctx, out, progress)
		case format.VHD:
			return m.writeVHD(ctx, out, progress)
		case format.QCOW2:
			return m.writeQCOW2(ctx, out, progress)
		case format.VHDX, format.VMDK:
			return m.writeByTool(ctx, out, filepath.Dir(path), f, progress)
		}
		return arm.Errorf(arm.CodeUsage, "an image cannot be exported as %q", f)
	})
}

// RenderRaw writes image d as a sparse raw file that is safe from a power
// failure when it has its name: what is at path is the whole image, always. The
// base disks of build machines are made by it.
func (s *Store) RenderRaw(ctx context.Context, d Digest, path string, progress Progress) error {
	return s.render(ctx, d, path, true, func(m *Image, out *os.File) error {
		return m.writeRaw(ctx, out, progress)
	})
}

// render opens the image and a new file, and gives the file its name when write
// has succeeded.
func (s *Store) render(ctx context.Context, d Digest, path string, durable bool, write func(m *Image, out *os.File) error) error {
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		return err
	}
	defer m.Close()
	out, err := newPending(path)
	if err != nil {
		return fileError(err, "creating %s", path)
	}
	if err := write(m, out.File); err != nil {
		out.discard()
		return exportError(err, path)
	}
	if err := ctx.Err(); err != nil {
		out.discard()
		return context.Cause(ctx)
	}
	if err := out.commit(durable); err != nil {
		return exportError(err, path)
	}
	return nil
}

// exportError gives the errors of writing a file their code; coded ones and
// those of a cancel are kept.
func exportError(err error, path string) error {
	var coded *arm.Error
	if errors.As(err, &coded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fileError(err, "writing %s", path)
}

// writeChunks writes the chunks to out, which must read as zeros, and leaves
// out the blocks of zeros within them. One writes at a time: the kernel lets no
// two write to one file, and makes the second spend its processor on waiting.
func (m *Image) writeChunks(ctx context.Context, out io.WriterAt, progress Progress) error {
	var turn sync.Mutex
	return m.stream(ctx, progress, func(n int64, plain []byte) error {
		off := n * ChunkSize
		plain = plain[:min(int64(len(plain)), m.index.Size-off)]
		turn.Lock()
		defer turn.Unlock()
		return disk.DataRuns(plain, func(at int, run []byte) error {
			_, err := out.WriteAt(run, off+int64(at))
			return err
		})
	})
}

func (m *Image) writeRaw(ctx context.Context, out *os.File, progress Progress) error {
	if err := out.Truncate(m.index.Size); err != nil {
		return err
	}
	return m.writeChunks(ctx, out, progress)
}

// writeVHD writes a fixed VHD.
func (m *Image) writeVHD(ctx context.Context, out *os.File, progress Progress) error {
	size := disk.RoundUp(m.index.Size, vhd.Alignment)
	footer, err := m.vhdFooter()
	if err != nil {
		return err
	}
	if err := out.Truncate(size + vhd.FooterSize); err != nil {
		return err
	}
	if err := m.writeChunks(ctx, out, progress); err != nil {
		return err
	}
	_, err = out.WriteAt(footer, size)
	return err
}

// vhdTime is the creation time in every VHD, in Unix seconds: 2026-01-01.
const vhdTime = 1767225600

func (m *Image) writeQCOW2(ctx context.Context, out *os.File, progress Progress) error {
	w, err := qcow2.NewWriter(out, m.index.Size, m.index.Extents(), nil)
	if err != nil {
		return err
	}
	return m.writeChunks(ctx, w, progress)
}

// writeByTool writes a format that is left to qemu-img. It reads a qcow2 file
// without a name in dir. A VMDK becomes streamOptimized, the one form that the
// importers of vSphere and OVF take, and the smallest.
func (m *Image) writeByTool(ctx context.Context, out *os.File, dir string, f format.Format, progress Progress) error {
	between, err := newTemporary(dir)
	if err != nil {
		return err
	}
	defer between.Close()
	if err := m.writeQCOW2(ctx, between, progress); err != nil {
		return err
	}
	options := "subformat=dynamic"
	if f == format.VMDK {
		options = "subformat=streamOptimized"
	}
	return convert(ctx, conversion{
		in: between, inDriver: format.QCOW2.Driver(),
		out: out, outDriver: f.Driver(), options: options,
		maxOutput: m.index.Size + m.index.Size/8 + 64<<20,
	})
}
