package image

import (
	"io"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/vhd"
)

// VHDSize is the size in bytes of a disk of size bytes as a fixed VHD.
func VHDSize(size int64) int64 { return disk.RoundUp(size, vhd.Alignment) + vhd.FooterSize }

// vhdFooter is the footer of the image as a fixed VHD. Its unique id comes from
// the image's digest and its time is fixed, so that one image always gives the
// same file.
func (m *Image) vhdFooter() ([]byte, error) {
	id := uuid.NewSHA1(uuid.NameSpaceOID, m.digest[:])
	footer, err := vhd.NewFixed(disk.RoundUp(m.index.Size, vhd.Alignment), id, time.Unix(vhdTime, 0))
	if err != nil {
		return nil, err
	}
	return footer.Bytes(), nil
}

// VHD is the image as a fixed VHD, rendered as it is read; it lasts as long as
// the image is open.
func (m *Image) VHD() (*io.SectionReader, error) {
	footer, err := m.vhdFooter()
	if err != nil {
		return nil, err
	}
	size := VHDSize(m.index.Size)
	return io.NewSectionReader(vhdView{m, footer, size}, 0, size), nil
}

// vhdView is an image, zeros up to the alignment, and a footer.
type vhdView struct {
	image  *Image
	footer []byte
	size   int64
}

// ReadAt implements io.ReaderAt.
func (v vhdView) ReadAt(p []byte, off int64) (int, error) {
	if off >= v.size {
		return 0, io.EOF
	}
	total := int(min(int64(len(p)), v.size-off))
	p = p[:total:total]
	at := off
	if data := v.image.index.Size; at < data {
		n := min(int64(len(p)), data-at)
		if err := disk.ReadFull(v.image, p[:n], at); err != nil {
			return 0, err
		}
		p, at = p[n:], at+n
	}
	foot := v.size - int64(len(v.footer))
	if at < foot && len(p) > 0 {
		n := min(int64(len(p)), foot-at)
		clear(p[:n])
		p, at = p[n:], at+n
	}
	if len(p) > 0 {
		copy(p, v.footer[at-foot:])
	}
	if off+int64(total) == v.size {
		return total, io.EOF
	}
	return total, nil
}
