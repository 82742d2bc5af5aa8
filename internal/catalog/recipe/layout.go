package recipe

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const (
	sectorBytes = 512
	mib         = 1 << 20
)

// GPT partition types (UEFI specification; discoverable partitions of the
// UAPI group; BIOS boot of GRUB).
const (
	typeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRootX64  = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
)

// partition is an extent of the disk, in bytes.
type partition struct {
	number int
	name   string
	kind   string
	start  int64
	size   int64
}

// The partitions. Root is last on the disk, so that it can grow, and first in
// number, as images for this cloud have it.
var (
	biosBoot = partition{14, "bios", typeBIOSBoot, 1 * mib, 3 * mib}
	espPart  = partition{15, "esp", typeESP, 4 * mib, 124 * mib}
	rootPart = partition{1, "root", typeRootX64, 128 * mib, DiskBytes - 129*mib}
)

// identity is one name-based UUID per thing of a recipe's disk that has an
// identifier, so that making it again gives the same ones.
func (r *Recipe) identity(thing string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("goldsmith:recipe:"+r.name+":"+thing))
}

// rootUUID identifies the root file system to its boot loader and fstab.
func (r *Recipe) rootUUID() string { return r.identity("root file system").String() }

// espID is the FAT volume id of the EFI system partition.
func (r *Recipe) espID() string {
	id := r.identity("esp file system")
	return fmt.Sprintf("%X", id[:4])
}

// espUUID is espID as /dev/disk/by-uuid shows it.
func (r *Recipe) espUUID() string {
	id := r.espID()
	return id[:4] + "-" + id[4:]
}

// partitionScript is the input of sfdisk(8).
func (r *Recipe) partitionScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, "label: gpt\nlabel-id: %s\nunit: sectors\nsector-size: %d\n\n", r.identity("disk"), sectorBytes)
	for _, p := range []partition{rootPart, biosBoot, espPart} {
		fmt.Fprintf(&b, "%d : start=%d, size=%d, type=%s, uuid=%s, name=%q\n",
			p.number, p.start/sectorBytes, p.size/sectorBytes, p.kind, r.identity(p.name), p.name)
	}
	return b.String()
}
