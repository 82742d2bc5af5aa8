package build_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/run"
)

func TestGalleryVersions(t *testing.T) {
	l := buildtest.New(t)
	source := l.ID("Microsoft.Compute/galleries/gal/images/source/versions/7.8.9")
	object := func(scheme string, more ...any) buildtest.Object {
		v := buildtest.Object{"scheme": scheme}
		if len(more) > 0 {
			v["major"] = more[0]
		}
		return buildtest.Object{"versioning": v}
	}
	for _, tc := range []struct {
		name, definition, rest string
		more                   buildtest.Object
		source                 string
		want                   string // pattern of the version
	}{
		{name: "explicit", definition: "source", rest: "/versions/7.8.9", want: `7\.8\.9`},
		{name: "timed", definition: "timed", want: `0\.\d{5}\.\d{1,5}`},
		{name: "first of any major", definition: "any", more: object("Latest"), want: `0\.0\.1`},
		{name: "first of a major", definition: "major", more: object("Latest", 3), want: `3\.0\.1`},
		{name: "next of a major", definition: "major", more: object("Latest", 3), want: `3\.0\.2`},
		{name: "next of any major", definition: "major", more: object("Latest"), want: `3\.0\.3`},
		{name: "as the source", definition: "copy", more: object("Source"), source: source, want: `7\.8\.9`},
		{name: "not the latest", definition: "major", rest: "/versions/9.0.0", more: buildtest.Object{"excludeFromLatest": true}, want: `9\.0\.0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			template := buildtest.Template{Distribute: []buildtest.Object{l.ToGallery(tc.definition, tc.rest, tc.more)}}
			if tc.source != "" {
				template.Source = buildtest.Object{"type": "SharedImageVersion", "imageVersionId": tc.source}
			}
			rec, events, err := l.Build(t.Context(), l.Request("to-"+tc.definition, template))
			if err != nil {
				t.Fatalf("%v\n%s", err, events.Text())
			}
			l.CheckClean(rec)
			version := rec.Outputs[0].ArtifactID[strings.LastIndex(rec.Outputs[0].ArtifactID, "/")+1:]
			if !regexp.MustCompile("^" + tc.want + "$").MatchString(version) {
				t.Errorf("version %s, want %s", version, tc.want)
			}
			if _, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID); err != nil {
				t.Error(err)
			}
		})
	}
	if got := latestVersion(t, l, "major"); got != "3.0.3" {
		t.Errorf("the latest version is %s", got)
	}
}

func TestFiles(t *testing.T) {
	l := buildtest.New(t)
	out := filepath.Join(l.Scratch, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	req := l.Request("files", buildtest.Template{Distribute: []buildtest.Object{l.ToVHD("disk")}})
	for _, name := range []string{"web.raw", "web.qcow2", "web.vhd"} {
		req.Outputs = append(req.Outputs, filepath.Join(out, name))
	}
	// What is there already is replaced.
	if err := os.WriteFile(req.Outputs[0], []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	rec, events, err := l.Build(t.Context(), req)
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	if diff := cmp.Diff([]string{"web.qcow2", "web.raw", "web.vhd"}, l.Files(out)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	kinds := []string{}
	for _, o := range rec.Outputs {
		kinds = append(kinds, o.Kind)
	}
	if diff := cmp.Diff([]string{"VHD", "File", "File", "File"}, kinds); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if uri := rec.Outputs[0].ArtifactURI; !regexp.MustCompile(`^https://[a-z0-9]{24}\.blob\.core\.windows\.net/vhds/` + rec.ID + `\.vhd$`).MatchString(uri) {
		t.Errorf("the VHD is at %s", uri)
	}
	raw, err := os.ReadFile(req.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != buildtest.DiskBytes {
		t.Fatalf("the raw file has %d bytes", len(raw))
	}
	journal, err := buildtest.ReadJournal(bytes.NewReader(raw))
	if err != nil || !strings.Contains(strings.Join(journal, "|"), "echo hello") {
		t.Errorf("the raw file holds %q, %v", journal, err)
	}
	chain, err := qcow2.OpenChain(t.Context(), req.Outputs[1])
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	same(t, "the qcow2 file", io.NewSectionReader(chain, 0, chain.Size()), raw)
	f, info, err := format.Open(t.Context(), req.Outputs[2], format.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info.Format != format.VHD || info.Size != buildtest.DiskBytes {
		t.Errorf("the VHD is %+v", info)
	}
	same(t, "the VHD", io.NewSectionReader(f, 0, info.Size), raw)
}

func same(t *testing.T, what string, r io.Reader, want []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has other content than the raw file", what)
	}
}

// Targets that fail after the build do not stop the others.
func TestOutputsFail(t *testing.T) {
	for _, tc := range []struct {
		name    string
		targets func(l *buildtest.Lab) []buildtest.Object
		outputs []string // how each ended
		state   run.State
	}{
		{"one", func(l *buildtest.Lab) []buildtest.Object {
			return []buildtest.Object{l.ToImage("good"), l.ToGallery("golden", "/versions/1.0.0", nil), l.ToVHD("disk")}
		}, []string{"", "failed", ""}, run.PartiallySucceeded},
		{"all", func(l *buildtest.Lab) []buildtest.Object {
			return []buildtest.Object{l.ToGallery("golden", "/versions/1.0.0", nil)}
		}, []string{"failed"}, run.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := buildtest.New(t)
			// While the steps run, somebody else publishes the same version.
			l.SetScript(buildtest.Script{Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
				if !strings.Contains(text, "publish now") {
					return 0, false
				}
				other, events, err := l.Build(ctx, l.Request("rival", buildtest.Template{Distribute: []buildtest.Object{l.ToGallery("golden", "/versions/1.0.0", nil)}}))
				if err != nil {
					t.Errorf("%v\n%s", err, events.Text())
				}
				_ = other
				return 0, true
			}})
			rec, events, err := l.Build(t.Context(), l.Request("late", buildtest.Template{
				Customize: []buildtest.Object{buildtest.Shell("wait", "publish now")}, Distribute: tc.targets(l),
			}))
			if err == nil || !strings.Contains(err.Error(), "exists already") {
				t.Errorf("the build ends with %v", err)
			}
			l.CheckClean(rec)
			if rec.State != tc.state {
				t.Errorf("the run is %s: %s", rec.State, rec.Message)
			}
			var ends []string
			for _, o := range rec.Outputs {
				end := ""
				if o.Error != "" {
					end = "failed"
				}
				ends = append(ends, end)
				_, err := l.Engine.Resources().Get(t.Context(), rec.Template+"/runOutputs/"+o.Name)
				if arm.IsCode(err, arm.CodeNotFound) != (end == "failed") {
					t.Errorf("the resource of output %s: %v", o.Name, err)
				}
			}
			if diff := cmp.Diff(tc.outputs, ends); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			failed := 0
			for _, e := range events.Events() {
				if e.Kind == event.Result && e.Err != nil {
					failed++
					if e.Err.Code != arm.CodeConflict {
						t.Errorf("the result says %+v", e.Err)
					}
				}
			}
			if failed != 1 {
				t.Errorf("%d results failed", failed)
			}
		})
	}
}

// An output whose directory vanishes during the build fails alone.
func TestFileOutputFails(t *testing.T) {
	l := buildtest.New(t)
	out := filepath.Join(l.Scratch, "gone")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	l.SetScript(buildtest.Script{Command: func(_ context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "remove it") {
			if err := os.Remove(out); err != nil {
				t.Error(err)
			}
			return 0, true
		}
		return 0, false
	}})
	req := l.Request("files", buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("s", "remove it")}})
	req.Outputs = []string{filepath.Join(out, "a.raw"), filepath.Join(l.Scratch, "b.qcow2")}
	rec, events, err := l.Build(t.Context(), req)
	if err == nil || rec.State != run.PartiallySucceeded || !strings.Contains(rec.Message, "1 of 3 outputs failed") {
		t.Errorf("%v: %s, %s\n%s", err, rec.State, rec.Message, events.Text())
	}
	l.CheckClean(rec)
	if _, err := os.Stat(req.Outputs[1]); err != nil {
		t.Error(err)
	}
}

func TestOutputIsRefusedBeforeTheBuild(t *testing.T) {
	l := buildtest.New(t)
	for name, path := range map[string]string{
		"unknown format":    filepath.Join(l.Scratch, "web.iso"),
		"missing directory": filepath.Join(l.Scratch, "nowhere", "web.raw"),
		"directory":         l.Scratch + "/.raw/..",
	} {
		req := l.Request("files", buildtest.Template{})
		req.Outputs = []string{path}
		rec, _, err := l.Build(t.Context(), req)
		if !arm.IsCode(err, arm.CodeUsage) {
			t.Errorf("%s: %v", name, err)
		}
		l.CheckClean(rec)
	}
	if calls := l.Fake.Calls(); len(calls) > 0 {
		t.Errorf("machines were used: %v", calls)
	}
}

func TestBoot(t *testing.T) {
	l := buildtest.New(t)
	rec, _, err := l.Build(t.Context(), l.Request("first", buildtest.Template{}))
	if err != nil {
		t.Fatal(err)
	}
	image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	exit, err := l.Engine.Boot(t.Context(), image.ShortName(), image.Content, build.BootOptions{Command: "echo out; echo err >&2; exit 7", Stdout: &stdout, Stderr: &stderr}, event.Discard)
	if err != nil || exit != 7 || stdout.String() != "out\n" || stderr.String() != "err\n" {
		t.Errorf("exit %d, %q, %q, %v", exit, stdout.String(), stderr.String(), err)
	}
	l.CheckClean(rec)
	if _, err := l.Engine.Boot(t.Context(), "x", image.Content, build.BootOptions{Size: "Standard_Huge"}, event.Discard); !arm.IsCode(err, arm.CodeValidationFailed) {
		t.Errorf("a size that does not exist: %v", err)
	}
	l.CheckClean(rec)
}
