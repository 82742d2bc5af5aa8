package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
)

var (
	hex256a = strings.Repeat("a1", 32)
	hex256b = strings.Repeat("b2", 32)
	hex512  = strings.Repeat("c3", 64)
)

func TestParseDigestList(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"coreutils text":   {hex256a + "  disk.img\n", "sha256:" + hex256a},
		"coreutils binary": {hex256b + "  other\n" + hex256a + " *disk.img\n", "sha256:" + hex256a},
		"sha512":           {hex512 + "  disk.img", "sha512:" + hex512},
		"upper, CRLF":      {strings.ToUpper(hex256a) + "  disk.img\r\n", "sha256:" + hex256a},
		"dot slash":        {hex256a + "  ./disk.img\n", "sha256:" + hex256a},
		"BSD":              {"# disk.img: 640 bytes\nSHA256 (disk.img) = " + hex256a + "\n", "sha256:" + hex256a},
		"BSD sha512":       {"SHA512 (disk.img) = " + hex512, "sha512:" + hex512},
		"both":             {hex256a + "  disk.img\n" + hex512 + "  disk.img\n", "sha512:" + hex512},
		"twice the same":   {hex256a + "  disk.img\n" + hex256a + " *disk.img\n", "sha256:" + hex256a},
		"clear-signed": {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 (disk.img) = " + hex256a +
			"\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n", "sha256:" + hex256a},
	} {
		list, err := ParseDigestList([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d, ok := list.Find("disk.img"); !ok || d.String() != c.want {
			t.Errorf("%s: %s, %t, want %s", name, d, ok, c.want)
		}
		if _, ok := list.Find("disk"); ok {
			t.Errorf("%s: a part of a name is found", name)
		}
	}
	for name, text := range map[string]string{
		"empty":         "",
		"a web page":    "<html><body>Not found</body></html>",
		"md5":           strings.Repeat("ab", 16) + "  disk.img\n",
		"wrong length":  "SHA256 (disk.img) = " + hex512,
		"contradiction": hex256a + "  disk.img\n" + hex256b + "  disk.img\n",
		"endless line":  strings.Repeat("a", maxListLine+10),
	} {
		if _, err := ParseDigestList([]byte(text)); arm.CodeOf(err) != arm.CodeFetchFailed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBuildOfNames(t *testing.T) {
	list, err := ParseDigestList([]byte(strings.Join([]string{
		"SHA256 (AlmaLinux-9-GenericCloud-latest.x86_64.qcow2) = " + hex256a,
		"SHA256 (AlmaLinux-9-GenericCloud-9.6-20250522.x86_64.qcow2) = " + hex256a,
		"SHA256 (AlmaLinux-9-GenericCloud-9.5-20241120.x86_64.qcow2) = " + hex256b,
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := list.Find("AlmaLinux-9-GenericCloud-latest.x86_64.qcow2")
	b, ok := buildOfNames(list.Names(d), "9.0")
	if got := b.version(nil); !ok || got != "9.0.202505220" {
		t.Errorf("version %s", got)
	}
	for name, want := range map[string]string{
		"Rocky-9-GenericCloud-Base-9.6-20250531.3.x86_64.qcow2": "9.0.202505313",
		"debian-12-genericcloud-amd64-20260914-2601.qcow2":      "9.0.202609140",
		"x-20260914":          "9.0.202609140",
		"x-20261399.qcow2":    "", // no such day
		"x-2026091.qcow2":     "",
		"x-202609140.qcow2":   "",
		"disk.img":            "",
		"x20260914.qcow2":     "",
		"a-19990101.01.qcow2": "",
	} {
		got := ""
		if b, ok := buildOfNames([]string{name}, "9.0"); ok {
			got = b.version(nil)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestVersionsOfOneDay(t *testing.T) {
	b := buildID{release: "12.0", day: time.Date(2026, 9, 1, 23, 59, 0, 0, time.FixedZone("", -3600))}
	var stored []Entry
	for range 3 {
		stored = append(stored, Entry{URN: URN{Version: b.version(stored)}})
	}
	var got []string
	for _, e := range stored {
		got = append(got, e.Version)
	}
	if diff := cmp.Diff([]string{"12.0.202609020", "12.0.202609021", "12.0.202609022"}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDigestList(f *testing.F) {
	f.Add([]byte(hex256a + "  disk.img\nSHA512 (x) = " + hex512))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseDigestList(text)
		if err != nil {
			return
		}
		for _, l := range list.lines {
			if d, err := artifact.ParseDigest(l.digest.String()); err != nil || d != l.digest || d.IsZero() {
				t.Fatalf("digest %v of %q", l.digest, l.name)
			}
			if _, ok := list.Find(l.name); !ok {
				t.Fatalf("%q is listed but not found", l.name)
			}
			if b, ok := buildOfNames(list.Names(l.digest), "1.0"); ok && !versionPart.MatchString(b.version(nil)) {
				t.Fatalf("%q gives version %q", l.name, b.version(nil))
			}
		}
	})
}
