package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/machine"
)

func inputs() Inputs {
	return Inputs{
		Base: Base{Image: "aa", Origin: "Debian:debian-12:12-gen2:1", OS: Linux, Generation: 2, DiskBytes: 4 << 30},
		Artifacts: map[string]Artifact{
			"https://x.example/run.sh?sig=1": {URI: "https://x.example/run.sh?sig=1", SHA256: "11", Size: 5},
			"https://x.example/data.bin":     {URI: "https://x.example/data.bin", SHA256: "22", Size: 7},
		},
		Host:    Host{CPUs: 64, MemoryMiB: 1 << 20, Sizes: AzureVMSizes()},
		Network: NetworkPrivate,
		Seed:    "seed", Settings: "settings",
	}
}

func template() *imagetemplate.Template {
	return &imagetemplate.Template{
		Name: "t", Location: "westus2", BuildTimeout: time.Hour,
		Customize: []imagetemplate.Customizer{
			{Type: imagetemplate.Shell, Name: "one", Inline: []string{"true"}, Pointer: "/properties/customize/0"},
			{Type: imagetemplate.Shell, ScriptURI: "https://x.example/run.sh?sig=1", Pointer: "/properties/customize/1"},
			{Type: imagetemplate.File, Name: "data", SourceURI: "https://x.example/data.bin", Destination: "/tmp/d", Pointer: "/properties/customize/2"},
		},
	}
}

func must(t interface{ Fatalf(string, ...any) }, tpl *imagetemplate.Template, in Inputs) *Plan {
	p, _, problems := New(tpl, in)
	if len(problems) > 0 {
		t.Fatalf("New: %v", problems)
	}
	return p
}

func TestNew(t *testing.T) {
	p := must(t, template(), inputs())
	if diff := cmp.Diff(machine.Shape{CPUs: 2, MemoryMiB: 8192, Firmware: machine.UEFI}, p.Shape); diff != "" {
		t.Errorf("the default machine of generation 2: %s", diff)
	}
	if p.DiskBytes != 4<<30 {
		t.Errorf("DiskBytes = %d, want the source's", p.DiskBytes)
	}
	if got := []string{p.Steps[0].Name, p.Steps[1].Name, p.Steps[2].Name}; !slices.Equal(got, []string{"one", "Shell 2", "data"}) {
		t.Errorf("names %q", got)
	}
	if got := p.Steps[1].FileName(); got != "run.sh" {
		t.Errorf("FileName = %q, want it without the query", got)
	}

	in, tpl := inputs(), template()
	in.Base.Generation = 1
	tpl.VMProfile = imagetemplate.VMProfile{OSDiskSizeGB: 30}
	p = must(t, tpl, in)
	if p.Shape.Firmware != machine.BIOS || p.Shape.CPUs != 1 || p.Shape.MemoryMiB != 3584 {
		t.Errorf("the default machine of generation 1 is %+v", p.Shape)
	}
	if p.DiskBytes != 30<<30 {
		t.Errorf("DiskBytes = %d, want 30 GiB", p.DiskBytes)
	}
}

func TestNewCapsByTheHost(t *testing.T) {
	in, tpl := inputs(), template()
	in.Host.CPUs, in.Host.MemoryMiB = 2, 4096
	tpl.VMProfile.Size = "Standard_D8s_v3"
	p, warnings, problems := New(tpl, in)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if p.Shape.CPUs != 2 || p.Shape.MemoryMiB != 4096 || len(warnings) != 1 {
		t.Errorf("shape %+v, warnings %q", p.Shape, warnings)
	}
	tpl.VMProfile.Size = ""
	if _, warnings, _ := New(tpl, in); len(warnings) != 0 {
		t.Errorf("a size that nobody asked for is warned of: %q", warnings)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*imagetemplate.Template, *Inputs)
		code   arm.Code
		target string
		text   string
	}{
		"windows source":     {func(_ *imagetemplate.Template, in *Inputs) { in.Base.OS = Windows }, arm.CodeNotSupported, "/properties/source", "windows"},
		"unknown size":       {func(t *imagetemplate.Template, _ *Inputs) { t.VMProfile.Size = "Standard_D2s_v33" }, arm.CodeValidationFailed, "/properties/vmProfile/vmSize", "Standard_D2s_v3"},
		"shrinking disk":     {func(t *imagetemplate.Template, _ *Inputs) { t.VMProfile.OSDiskSizeGB = 3 }, arm.CodeValidationFailed, "/properties/vmProfile/osDiskSizeGB", "only grow"},
		"windows customizer": {func(t *imagetemplate.Template, _ *Inputs) { t.Customize[0].Type = imagetemplate.PowerShell }, arm.CodeValidationFailed, "/properties/customize/0", "runs only on Windows"},
		"destination":        {func(t *imagetemplate.Template, _ *Inputs) { t.Customize[2].Destination = "/etc/x" }, arm.CodeValidationFailed, "/properties/customize/2", "/tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, in := template(), inputs()
			c.change(tpl, &in)
			p, _, problems := New(tpl, in)
			if p != nil || len(problems) != 1 {
				t.Fatalf("plan %v, problems %v; want one problem", p, problems)
			}
			got := problems[0]
			if got.Code != c.code || got.Target != c.target || !strings.Contains(got.Message, c.text) {
				t.Errorf("got %s at %s: %s", got.Code, got.Target, got.Message)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	tpl, in := template(), inputs()
	tpl.VMProfile = imagetemplate.VMProfile{Size: "nonsense", OSDiskSizeGB: 1}
	tpl.Customize[2].Destination = "relative"
	if _, _, problems := New(tpl, in); len(problems) != 3 {
		t.Errorf("%d problems, want 3: %v", len(problems), problems)
	}
}

// What changes a step's result changes its key and those after it, and nothing
// before; what does not change the result changes no key.
func TestKeys(t *testing.T) {
	keys := must(t, template(), inputs()).Keys("")
	all := append([]string{keys.Root}, keys.Steps...)
	for name, c := range map[string]struct {
		change func(*imagetemplate.Template, *Inputs)
		from   int // first of all that changes; len(all) for none
	}{
		"nothing":          {func(*imagetemplate.Template, *Inputs) {}, 4},
		"step name":        {func(t *imagetemplate.Template, _ *Inputs) { t.Customize[0].Name = "other" }, 4},
		"template name":    {func(t *imagetemplate.Template, _ *Inputs) { t.Name = "other" }, 4},
		"timeout":          {func(t *imagetemplate.Template, _ *Inputs) { t.BuildTimeout = 2 * time.Hour }, 4},
		"origin":           {func(_ *imagetemplate.Template, in *Inputs) { in.Base.Origin = "copy" }, 4},
		"outputs":          {func(t *imagetemplate.Template, _ *Inputs) { t.Distribute = make([]Output, 2) }, 4},
		"base image":       {func(_ *imagetemplate.Template, in *Inputs) { in.Base.Image = "bb" }, 0},
		"seed":             {func(_ *imagetemplate.Template, in *Inputs) { in.Seed = "other" }, 0},
		"settings":         {func(_ *imagetemplate.Template, in *Inputs) { in.Settings = "other" }, 0},
		"network":          {func(_ *imagetemplate.Template, in *Inputs) { in.Network = "vnet" }, 0},
		"identities":       {func(_ *imagetemplate.Template, in *Inputs) { in.Identities = []string{"a"} }, 0},
		"machine":          {func(t *imagetemplate.Template, _ *Inputs) { t.VMProfile.Size = "Standard_B1ms" }, 0},
		"disk":             {func(t *imagetemplate.Template, _ *Inputs) { t.VMProfile.OSDiskSizeGB = 8 }, 0},
		"first command":    {func(t *imagetemplate.Template, _ *Inputs) { t.Customize[0].Inline = []string{"false"} }, 1},
		"script content":   {func(_ *imagetemplate.Template, in *Inputs) { in.set("https://x.example/run.sh?sig=1", "33") }, 2},
		"file destination": {func(t *imagetemplate.Template, _ *Inputs) { t.Customize[2].Destination = "/tmp/e" }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, in := template(), inputs()
			c.change(tpl, &in)
			k := must(t, tpl, in).Keys("")
			for i, key := range append([]string{k.Root}, k.Steps...) {
				if same := key == all[i]; same != (i < c.from) {
					t.Errorf("key %d: same = %v", i, same)
				}
			}
		})
	}
	if must(t, template(), inputs()).Keys("again").Root == keys.Root {
		t.Error("an explicit refresh does not change the root key")
	}
}

func (in *Inputs) set(uri, sha256 string) {
	a := in.Artifacts[uri]
	a.SHA256 = sha256
	in.Artifacts[uri] = a
}

// The address of a script does not matter, its content does.
func TestKeysFollowContentNotAddress(t *testing.T) {
	tpl, in := template(), inputs()
	in.Artifacts["https://y.example/else.sh"] = Artifact{URI: "https://y.example/else.sh", SHA256: "11", Size: 5}
	tpl.Customize[1].ScriptURI = "https://y.example/else.sh"
	if diff := cmp.Diff(must(t, template(), inputs()).Keys(""), must(t, tpl, in).Keys("")); diff != "" {
		t.Errorf("keys differ: %s", diff)
	}
}

func TestWarmKey(t *testing.T) {
	p := must(t, template(), inputs())
	tpl := template()
	tpl.VMProfile.OSDiskSizeGB = 64
	in := inputs()
	in.Network, in.Settings = "vnet", "other"
	if p.WarmKey("f") != must(t, tpl, in).WarmKey("f") {
		t.Error("disk size, network or settings are part of the warm key: they are set after the restore")
	}
	if p.WarmKey("f") == p.WarmKey("g") {
		t.Error("another hypervisor has the same warm key")
	}
}

// Lists of commands that differ never share a key, however they are cut.
func TestKeysAreInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune("a;\n\" ,"))), 0, 4)
		a, b := lines.Draw(t, "a"), lines.Draw(t, "b")
		key := func(inline []string) string {
			tpl := template()
			tpl.Customize = tpl.Customize[:1]
			tpl.Customize[0].Inline = inline
			return must(t, tpl, inputs()).Keys("").Steps[0]
		}
		if (key(a) == key(b)) != slices.Equal(a, b) {
			t.Fatalf("%q and %q: same key %v", a, b, key(a) == key(b))
		}
	})
}
