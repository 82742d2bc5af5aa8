package plan

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestVMSizes(t *testing.T) {
	sizes := AzureVMSizes()
	for name, want := range map[string]VMSize{
		"Standard_D1_v2":     {"Standard_D1_v2", 1, 3584},
		"Standard_A1_v2":     {"Standard_A1_v2", 1, 2048},
		"Standard_D2ds_v4":   {"Standard_D2ds_v4", 2, 8192},
		"Standard_D2s_v3":    {"Standard_D2s_v3", 2, 8192},
		"standard_d8S_V3":    {"Standard_D8s_v3", 8, 32768},
		"Standard_D2_v2":     {"Standard_D2_v2", 2, 7168},
		"Standard_DS1_v2":    {"Standard_DS1_v2", 1, 3584},
		"Standard_DS15_v2":   {"Standard_DS15_v2", 20, 143360},
		"Standard_D96ads_v5": {"Standard_D96ads_v5", 96, 393216},
		"Standard_B1ls":      {"Standard_B1ls", 1, 512},
		"Standard_B2ms":      {"Standard_B2ms", 2, 8192},
		"Standard_B2as_v2":   {"Standard_B2as_v2", 2, 8192},
		"Standard_E64_v3":    {"Standard_E64_v3", 64, 442368},
		"Standard_E96s_v5":   {"Standard_E96s_v5", 96, 688128},
		"Standard_E8ds_v6":   {"Standard_E8ds_v6", 8, 65536},
		"Standard_F2":        {"Standard_F2", 2, 4096},
		"Standard_F72s_v2":   {"Standard_F72s_v2", 72, 147456},
		"Basic_A0":           {"Basic_A0", 1, 768},
	} {
		got, err := sizes.Lookup(name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	all := sizes.All()
	if len(all) < 200 {
		t.Errorf("%d sizes, want at least 200", len(all))
	}
	shape := regexp.MustCompile(`^(Standard|Basic)_[ABDEF][A-Za-z]*[0-9]+[a-z]*(_v[2-6])?$`)
	for _, s := range all {
		if !shape.MatchString(s.Name) || s.VCPUs < 1 || s.VCPUs > 192 || s.MemoryMiB < 512 || s.MemoryMiB > 2<<20 {
			t.Errorf("%+v", s)
		}
	}
}

func TestUnknownVMSize(t *testing.T) {
	for name, near := range map[string]string{
		"Standard_D2sv3":   "Standard_D2s_v3",
		"Standard_DS2_v22": "Standard_DS2_v2",
		"D2s_v3":           "Standard_D2s_v3",
		"t3.large":         "",
		"":                 "",
	} {
		_, err := AzureVMSizes().Lookup(name)
		if arm.CodeOf(err) != arm.CodeValidationFailed || !strings.Contains(err.Error(), near) {
			t.Errorf("%q: %v, want a word of %s", name, err, near)
		}
		if near == "" && strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestConfiguredVMSizes(t *testing.T) {
	azure := AzureVMSizes()
	mine := azure.With(VMSize{"Standard_D1_v2", 2, 1024}, VMSize{"Big_One", 64, 1 << 20})
	for name, want := range map[string]VMSize{"standard_d1_v2": {"Standard_D1_v2", 2, 1024}, "big_one": {"Big_One", 64, 1 << 20}} {
		if got, err := mine.Lookup(name); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got, _ := azure.Lookup("Standard_D1_v2"); got.VCPUs != 1 {
		t.Error("the table of Azure's sizes changed")
	}
}

func TestCap(t *testing.T) {
	big := VMSize{"Standard_D8s_v3", 8, 32768}
	if got, warning := big.Cap(16, 65536); got != big || warning != "" {
		t.Errorf("%+v %q", got, warning)
	}
	got, warning := big.Cap(2, 4096)
	if got.VCPUs != 2 || got.MemoryMiB != 4096 || warning != "vm size Standard_D8s_v3 has 8 vCPUs and 32768 MiB of memory; this host gives 2 and 4096" {
		t.Errorf("%+v %q", got, warning)
	}
	if got, _ := big.Cap(0, 0); got.VCPUs != 1 || got.MemoryMiB != minMemoryMiB {
		t.Errorf("%+v", got)
	}
}
