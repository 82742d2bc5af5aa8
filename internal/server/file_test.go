package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/identity"
)

func TestParse(t *testing.T) {
	got, err := Parse("f", []byte(`# a service
listen: 0.0.0.0:443
url: https://images.example.org
names: [images]
storageSuffix: images.example.org
slots: 3
log: {format: json, level: debug}
builds:
  vmSizes: ["Small=1,1024"]
  bootTimeout: 20m
issuers:
- issuer: https://login.example.org
  audiences: [goldsmith]
  claims: {objectId: oid}
  groups: {admins: aaaaaaaa-0000-0000-0000-000000000001}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Listen: "0.0.0.0:443", URL: "https://images.example.org", Names: []string{"images"}, StorageSuffix: "images.example.org", Slots: 3,
		Log: LogSettings{Format: "json", Level: "debug"}, Builds: BuildSettings{VMSizes: []string{"Small=1,1024"}, BootTimeout: "20m"},
		Issuers: []identity.Issuer{{
			URL: "https://login.example.org", Audiences: []string{"goldsmith"}, Claims: identity.ClaimNames{ObjectID: "oid"},
			Groups: map[string]string{"admins": "aaaaaaaa-0000-0000-0000-000000000001"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := Parse("f", nil); err != nil || cmp.Diff(Settings{}, got) != "" {
		t.Errorf("an empty file: %+v %v", got, err)
	}
}

func TestParseSaysWhere(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown":        {"listen: :1\nlisten_on: x\n", `f:2: there is no setting "listen_on"; did you mean listen?`},
		"nested unknown": {"log:\n  formt: x\n", `f:2: there is no setting "formt"; did you mean format?`},
		"type":           {"\nslots: many\n", "f:2: str many is not what is expected here: a whole number"},
		"syntax":         {"a: b\n c: [\n", "f:2: "},
		"list":           {"names: x\n", "f:1: str x is not what is expected here: a list"},
		"http":           {"slots: 1\nurl: http://x\n", "f:2: url: "},
		"pair":           {"certificate: x\n", "f:1: certificate: certificate and key belong together"},
		"bridge":         {"builds:\n  bridges: [a/b/c=br0, corp=br0]\n", "f:2: builds.bridges.1: a subnet on a bridge is GROUP/NAME/SUBNET=BRIDGE"},
		"slots":          {"slots: -1\n", "f:1: slots: "},
		"level":          {"log:\n  level: loud\n", "f:2: log.level: "},
		"format":         {"log:\n  format: xml\n", "f:2: log.format: "},
		"listen":         {"listen: x\n", "f:1: listen: "},
		"timeout":        {"builds:\n  vmSizes: []\n  bootTimeout: soon\n", "f:3: builds.bootTimeout: "},
		"issuer":         {"issuers:\n- issuer: https://a\n  audiences: [x]\n- issuer: http://b\n", "f:4: issuers.1: "},
		"suffix":         {"storageSuffix: https://x\n", "f:1: storageSuffix: "},
		"two":            {"slots: -1\nlisten: x\nlog: {level: x}\n", "f:2: listen: "},
		"twice":          {"slots: 1\nslots: 2\n", "f:2: "},
		"huge":           {strings.Repeat("#", maxConfigBytes+1), "f: a configuration has at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.text))
			if !arm.IsCode(err, arm.CodeUsage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := ReadFile(path); !arm.IsCode(err, arm.CodeUsage) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("slots: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadFile(path); err != nil || s.Slots != 2 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"GOLDSMITH_LISTEN": ":1", "GOLDSMITH_SLOTS": "4", "GOLDSMITH_LOG_LEVEL": "warn"}
	s := Settings{Listen: ":2", URL: "https://x"}
	if err := s.Environment(func(n string) string { return env[n] }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Settings{Listen: ":1", URL: "https://x", Slots: 4, Log: LogSettings{Level: "warn"}}, s); diff != "" {
		t.Error(diff)
	}
	env["GOLDSMITH_SLOTS"] = "x"
	if err := s.Environment(func(n string) string { return env[n] }); !arm.IsCode(err, arm.CodeUsage) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"listen: x", "issuers: [{issuer: https://a, audiences: [b]}]", "a: &a [*a]", "builds: {vmSizes: 1}", "- 1", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Parse("f", b); err != nil && !arm.IsCode(err, arm.CodeUsage) {
			t.Fatal(err)
		}
	})
}
