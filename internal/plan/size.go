package plan

import "goldsmith/internal/arm"

// Sizes the service uses when vmSize is empty.
const (
	defaultSizeGen1 = "Standard_D1_v2"
	defaultSizeGen2 = "Standard_D2ds_v4"
)

// Host is what the machine that builds can give to one build VM.
type Host struct {
	CPUs      int
	MemoryMiB int
	Sizes     VMSizes // what size names stand for
}

// Size is the machine of a VM size, "" for the default of a generation, capped
// by the host. The warning is "" when nothing was cut; the error is
// CodeValidationFailed for a name that is not known.
func (h Host) Size(name string, generation int) (size VMSize, warning string, err error) {
	implied := name == ""
	if implied {
		name = defaultSizeGen2
		if generation == 1 {
			name = defaultSizeGen1
		}
	}
	size, err = h.Sizes.Lookup(name)
	if err != nil {
		return VMSize{}, "", arm.Errorf(arm.CodeValidationFailed, "%w", err)
	}
	size, warning = size.Cap(h.CPUs, h.MemoryMiB)
	if implied {
		warning = "" // nobody asked for that size
	}
	return size, warning, nil
}
