package store

import (
	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
)

// networkFileSystems are the file systems whose locks or shared memory do not
// hold between hosts, by the magic number of statfs(2).
var networkFileSystems = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.AFS_SUPER_MAGIC:  "AFS",
	unix.CODA_SUPER_MAGIC: "Coda",
	unix.NCP_SUPER_MAGIC:  "NCP",
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	0x0bd00bd0:            "Lustre",
	0x47504653:            "GPFS",
}

// refuseNetworkFileSystem is CodeNotSupported when dir lies on a file system
// that would corrupt a database two hosts write.
func refuseNetworkFileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return arm.Errorf(arm.CodeInternal, "open database: look at its directory: %w", err).At(dir)
	}
	return refuseMagic(uint32(st.Type), dir)
}

func refuseMagic(magic uint32, dir string) error {
	name, ok := networkFileSystems[magic]
	if !ok {
		return nil
	}
	return arm.Errorf(arm.CodeNotSupported,
		"the data directory is on %s, where file locks do not hold between hosts and the database would be damaged; put it on a local disk", name).At(dir)
}
