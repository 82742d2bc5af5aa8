package plan

import (
	"fmt"
	"sort"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/suggest"
)

// VMSize is how much of a machine a size name of Azure stands for.
type VMSize struct {
	Name      string `json:"name"` // "Standard_D2s_v3"
	VCPUs     int    `json:"vcpus"`
	MemoryMiB int    `json:"memoryMiB"`
}

// VMSizes is a table of sizes, looked up in any case.
type VMSizes struct{ byName map[string]VMSize }

// AzureVMSizes is the table of Azure's general purpose, burstable, compute and
// memory optimised x86 sizes: the series A, B, D, DS, E and F in all versions.
// Figures are from Azure's documentation of sizes.
func AzureVMSizes() VMSizes {
	t := VMSizes{byName: map[string]VMSize{}}
	for _, f := range families {
		for _, n := range f.sizes() {
			t.byName[strings.ToLower(n.Name)] = n
		}
	}
	return t
}

// With returns the table with more sizes, which replace those of the same name.
func (t VMSizes) With(more ...VMSize) VMSizes {
	c := VMSizes{byName: make(map[string]VMSize, len(t.byName)+len(more))}
	for k, v := range t.byName {
		c.byName[k] = v
	}
	for _, s := range more {
		c.byName[strings.ToLower(s.Name)] = s
	}
	return c
}

// All lists the sizes by name.
func (t VMSizes) All() []VMSize {
	out := make([]VMSize, 0, len(t.byName))
	for _, s := range t.byName {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Lookup finds a size in any case. An unknown one is CodeValidationFailed and
// names the nearest.
func (t VMSizes) Lookup(name string) (VMSize, error) {
	if s, ok := t.byName[strings.ToLower(name)]; ok {
		return s, nil
	}
	var names []string
	for _, s := range t.All() {
		names = append(names, s.Name)
	}
	hint := ""
	if near := suggest.Nearest(name, names, 3); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, ", ") + "?"
	}
	return VMSize{}, arm.Errorf(arm.CodeValidationFailed, "vm size %q is not known here%s", name, hint)
}

// Cap limits s to what the host can give: hostCPUs, and hostMiB of memory after
// what the host itself needs. The warning says what was cut, "" when nothing.
func (s VMSize) Cap(hostCPUs, hostMiB int) (capped VMSize, warning string) {
	capped = s
	capped.VCPUs = max(1, min(s.VCPUs, hostCPUs))
	capped.MemoryMiB = max(minMemoryMiB, min(s.MemoryMiB, hostMiB))
	if capped == s {
		return s, ""
	}
	return capped, fmt.Sprintf("vm size %s has %d vCPUs and %d MiB of memory; this host gives %d and %d",
		s.Name, s.VCPUs, s.MemoryMiB, capped.VCPUs, capped.MemoryMiB)
}

// minMemoryMiB is what a cloud image needs to boot.
const minMemoryMiB = 512

// family is a series of sizes: each pattern, with "#" standing for the vCPUs,
// gives one size per entry of cpus.
type family struct {
	patterns []string
	cpus     []int
	perCPU   int         // GiB of memory per vCPU
	odd      map[int]int // GiB of sizes that break the ratio, by vCPUs
	fixed    []VMSize    // sizes whose names do not tell the vCPUs
}

func (f family) sizes() []VMSize {
	out := append([]VMSize(nil), f.fixed...)
	for _, p := range f.patterns {
		for _, n := range f.cpus {
			gib, ok := f.odd[n]
			if !ok {
				gib = f.perCPU * n
			}
			out = append(out, VMSize{strings.Replace(p, "#", fmt.Sprint(n), 1), n, gib << 10})
		}
	}
	return out
}

// numbered makes the fixed sizes of the first series, whose number is an ordinal.
func numbered(pattern string, rows map[string][2]int) []VMSize {
	var out []VMSize
	for n, r := range rows {
		out = append(out, VMSize{strings.Replace(pattern, "#", n, 1), r[0], r[1]})
	}
	return out
}

// dv1 are D1 to D14 of the first and second version, in vCPUs and MiB.
var dv1 = map[string][2]int{
	"1": {1, 3584}, "2": {2, 7168}, "3": {4, 14336}, "4": {8, 28672},
	"11": {2, 14336}, "12": {4, 28672}, "13": {8, 57344}, "14": {16, 114688},
}

var dv2Large = map[string][2]int{"5": {16, 57344}, "15": {20, 143360}}

var fv1 = map[string][2]int{"1": {1, 2048}, "2": {2, 4096}, "4": {4, 8192}, "8": {8, 16384}, "16": {16, 32768}}

var (
	to64  = []int{2, 4, 8, 16, 32, 48, 64}
	to96  = []int{2, 4, 8, 16, 32, 48, 64, 96}
	to128 = []int{2, 4, 8, 16, 32, 48, 64, 96, 128}
	e20   = []int{2, 4, 8, 16, 20, 32, 48, 64}
)

var families = []family{
	// A
	{fixed: numbered("Basic_A#", map[string][2]int{"0": {1, 768}, "1": {1, 1792}, "2": {2, 3584}, "3": {4, 7168}, "4": {8, 14336}})},
	{fixed: numbered("Standard_A#", map[string][2]int{
		"0": {1, 768}, "1": {1, 1792}, "2": {2, 3584}, "3": {4, 7168}, "4": {8, 14336}, "5": {2, 14336}, "6": {4, 28672}, "7": {8, 57344},
		"8": {8, 57344}, "9": {16, 114688}, "10": {8, 57344}, "11": {16, 114688},
	})},
	{patterns: []string{"Standard_A#_v2"}, cpus: []int{1, 2, 4, 8}, perCPU: 2},
	{patterns: []string{"Standard_A#m_v2"}, cpus: []int{2, 4, 8}, perCPU: 8},
	// B
	{fixed: []VMSize{{"Standard_B1ls", 1, 512}, {"Standard_B1s", 1, 1024}, {"Standard_B1ms", 1, 2048}, {"Standard_B2s", 2, 4096}}},
	{patterns: []string{"Standard_B#ms"}, cpus: []int{2, 4, 8, 12, 16, 20}, perCPU: 4},
	{fixed: []VMSize{{"Standard_B2ts_v2", 2, 1024}, {"Standard_B2ats_v2", 2, 1024}}},
	{patterns: []string{"Standard_B#ls_v2", "Standard_B#als_v2"}, cpus: []int{2, 4, 8, 16, 32}, perCPU: 2},
	{patterns: []string{"Standard_B#s_v2", "Standard_B#as_v2"}, cpus: []int{2, 4, 8, 16, 32}, perCPU: 4},
	// D and DS, first versions
	{fixed: numbered("Standard_D#", dv1)},
	{fixed: numbered("Standard_DS#", dv1)},
	{fixed: numbered("Standard_D#_v2", dv1)},
	{fixed: numbered("Standard_D#_v2", dv2Large)},
	{fixed: numbered("Standard_DS#_v2", dv1)},
	{fixed: numbered("Standard_DS#_v2", dv2Large)},
	// D
	{patterns: []string{"Standard_D#_v3", "Standard_D#s_v3", "Standard_D#_v4", "Standard_D#s_v4", "Standard_D#d_v4", "Standard_D#ds_v4"}, cpus: to64, perCPU: 4},
	{patterns: []string{
		"Standard_D#a_v4", "Standard_D#as_v4",
		"Standard_D#_v5", "Standard_D#s_v5", "Standard_D#d_v5", "Standard_D#ds_v5", "Standard_D#as_v5", "Standard_D#ads_v5",
		"Standard_D#as_v6", "Standard_D#ads_v6", "Standard_DC#as_v5", "Standard_DC#ads_v5",
	}, cpus: to96, perCPU: 4},
	{patterns: []string{"Standard_D#s_v6", "Standard_D#ds_v6"}, cpus: append(append([]int(nil), to128...), 192), perCPU: 4},
	{patterns: []string{"Standard_D#ls_v5", "Standard_D#lds_v5", "Standard_D#als_v6", "Standard_D#alds_v6"}, cpus: to96, perCPU: 2},
	{patterns: []string{"Standard_D#ls_v6", "Standard_D#lds_v6"}, cpus: to128, perCPU: 2},
	// E: the largest of some versions have less memory than their ratio says
	{patterns: []string{"Standard_E#_v3", "Standard_E#s_v3"}, cpus: e20, perCPU: 8, odd: map[int]int{64: 432}},
	{patterns: []string{"Standard_E#_v4", "Standard_E#s_v4", "Standard_E#d_v4", "Standard_E#ds_v4"}, cpus: e20, perCPU: 8, odd: map[int]int{64: 504}},
	{patterns: []string{"Standard_E#a_v4", "Standard_E#as_v4"}, cpus: append(append([]int(nil), e20...), 96), perCPU: 8, odd: map[int]int{96: 672}},
	{patterns: []string{"Standard_E#_v5", "Standard_E#s_v5", "Standard_E#d_v5", "Standard_E#ds_v5", "Standard_E#as_v5", "Standard_E#ads_v5"},
		cpus: append(append([]int(nil), e20...), 96), perCPU: 8, odd: map[int]int{96: 672}},
	{patterns: []string{"Standard_E#as_v6", "Standard_E#ads_v6"}, cpus: append(append([]int(nil), e20...), 96), perCPU: 8, odd: map[int]int{96: 672}},
	{patterns: []string{"Standard_E#s_v6", "Standard_E#ds_v6"}, cpus: append(append([]int(nil), e20...), 96, 128), perCPU: 8},
	// F
	{fixed: numbered("Standard_F#", fv1)},
	{fixed: numbered("Standard_F#s", fv1)},
	{patterns: []string{"Standard_F#s_v2"}, cpus: []int{2, 4, 8, 16, 32, 48, 64, 72}, perCPU: 2},
	{patterns: []string{"Standard_F#als_v6"}, cpus: to64, perCPU: 2},
	{patterns: []string{"Standard_F#as_v6"}, cpus: to64, perCPU: 4},
	{patterns: []string{"Standard_F#ams_v6"}, cpus: to64, perCPU: 8},
}
