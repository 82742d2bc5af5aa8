package layer

import (
	"encoding/json"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// Manifest says what a layer's files hold. Changed covers every byte of the disk
// that differs from the layer below, in whole chunks: whatever it does not name
// is inherited.
type Manifest struct {
	DiskBytes int64         `json:"diskBytes"` // virtual size of the disk
	ChunkSize int64         `json:"chunkSize"` // granularity of Changed
	Changed   []disk.Extent `json:"changed"`
	Saved     *Saved        `json:"saved,omitempty"`
	// Oldest is when the oldest step of the chain up to here began; zero for the
	// booted base, which has none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Step is the name of the step that the layer is of, for people.
	Step string `json:"step,omitempty"`
	// Files are the sizes and checksums of the files; filled in by Commit.
	Files map[string]File `json:"files,omitempty"`
	// Failed is set on the state of a failed step, which is kept for a look at it.
	Failed *Failed `json:"failed,omitempty"`
}

// File is what a sealed file must still be.
type File struct {
	Bytes int64  `json:"bytes"`         // its length, holes included
	Sum   string `json:"sum,omitempty"` // CRC-32C of its content, in hex; "" for guest memory in a file of its own
}

// Failed describes the state in which a step failed.
type Failed struct {
	Until   time.Time       `json:"until"`  // it is removed after that
	Shape   json.RawMessage `json:"shape"`  // of the machine
	Origin  string          `json:"origin"` // of the base, for people
	Message string          `json:"message"`
}

// Saved is what restoring a memory layer needs besides its files.
type Saved struct {
	Fingerprint string `json:"fingerprint"` // hypervisor that can restore it
	Waagent     bool   `json:"waagent"`     // the guest has the Azure agent
	// Whole says that the state holds the memory too; else it is in RAMFile.
	Whole bool `json:"whole,omitempty"`
	// MAC is the address of the NIC that was plugged, "" for none.
	MAC string `json:"mac,omitempty"`
}

// Encode is the manifest as a Record keeps it.
func (m Manifest) Encode() (json.RawMessage, error) { return json.Marshal(m) }

// ManifestOf reads a record's manifest.
func ManifestOf(r Record) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(r.Manifest, &m); err != nil {
		return m, arm.Errorf(arm.CodeCorrupt, "the manifest of layer %s does not parse: %w", r.ID, err)
	}
	return m, nil
}

// Chunked rounds extents out to whole chunks and merges them, in order. The last
// chunk of a disk is cut at its end.
func Chunked(extents []disk.Extent, chunk, size int64) []disk.Extent {
	out := make([]disk.Extent, 0, len(extents))
	for _, e := range extents {
		if e.Length <= 0 || e.Start >= size {
			continue
		}
		start := e.Start / chunk * chunk
		end := min((e.Start+e.Length+chunk-1)/chunk*chunk, size)
		out = append(out, disk.Extent{Start: start, Length: end - start})
	}
	return disk.Union(out)
}
