package build_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/layer"
	"goldsmith/internal/run"
)

// milestones are the events that every successful run has, in order.
func milestones(events []event.Event) []string {
	var all []string
	for _, e := range events {
		switch e.Kind {
		case event.RunStarted, event.RunFinished, event.Result:
			all = append(all, string(e.Kind)+" "+e.State+e.Text)
		case event.PhaseStarted, event.PhaseFinished:
			all = append(all, string(e.Kind)+" "+string(e.Phase))
		case event.StepStarted, event.StepFinished:
			all = append(all, string(e.Kind)+" "+e.StepName)
		case event.Output:
			all = append(all, e.StepName+" "+e.Stream+": "+e.Text)
		}
	}
	return all
}

func TestBuild(t *testing.T) {
	l := buildtest.New(t)
	file := l.File("motd", "welcome\n")
	req := l.Request("first", buildtest.Template{Customize: []buildtest.Object{
		buildtest.Shell("hello", "echo hello", "echo oh >&2 && cat"),
		{"type": "File", "name": "motd", "sourceUri": file, "destination": "/tmp/motd"},
	}})
	rec, events, err := l.Build(t.Context(), req)
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	want := []string{
		"phase.started submit", "phase.finished submit",
		"run.started first",
		"phase.started prepare", "phase.finished prepare",
		"phase.started start", "phase.finished start",
		"phase.started customize",
		"step.started hello", "hello stdout: hello", "hello stderr: oh", "step.finished hello",
		"step.started motd", "motd stdout: motd -> /tmp/motd (8 bytes)", "step.finished motd",
		"phase.finished customize",
		"phase.started generalize", "generalize stdout: waagent -force -deprovision+user", "phase.finished generalize",
		"phase.started capture", "phase.finished capture",
		"phase.started distribute", "result ManagedImage first-out", "phase.finished distribute",
		"phase.started cleanup", "phase.finished cleanup",
		"run.finished Succeeded",
	}
	got := milestones(events.Events())
	// The two streams of a command have no order between them.
	if i, j := slices.Index(got, "hello stderr: oh"), slices.Index(got, "hello stdout: hello"); i >= 0 && i < j {
		got[i], got[j] = got[j], got[i]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for i, e := range events.Events() {
		if e.Offset != int64(i) || e.Run != rec.ID || e.Time.IsZero() {
			t.Errorf("event %d is of offset %d, run %s, time %v", i, e.Offset, e.Run, e.Time)
		}
	}
	id := l.ID("Microsoft.Compute/images/first")
	outputs := []run.Output{{Name: "first-out", Kind: "ManagedImage", ArtifactID: id}}
	if rec.State != run.Succeeded || rec.Message != "" || rec.FailedStep != "" || rec.StartedAt.IsZero() || rec.EndedAt.Before(rec.StartedAt) {
		t.Errorf("the run's record: %+v", rec)
	}
	if diff := cmp.Diff(outputs, rec.Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	image, err := l.Engine.FindImage(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if image.DiskBytes != buildtest.DiskBytes || image.Generation != 2 || image.OS != "Linux" || image.Run != rec.ID || image.Tags["made"] != "here" {
		t.Errorf("the managed image: %+v", image)
	}
	journal := []string{"boot", "script_1.sh: echo hello\necho oh >&2 && cat", "generalise"}
	if diff := cmp.Diff(journal, l.Journal(image.Content.Image)); diff != "" {
		t.Errorf("what the guest left in the image (-want +got):\n%s", diff)
	}
	checkRunOutput(t, l, rec.Template+"/runOutputs/first-out", map[string]any{"provisioningState": "Succeeded", "artifactId": id})
	checkExactVersion(t, l, rec.Template)
	checkStaging(t, l, rec)
	checkChain(t, l, rec)
}

func checkRunOutput(t *testing.T, l *buildtest.Lab, id string, want map[string]any) {
	t.Helper()
	r, err := l.Engine.Resources().Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(r.Properties, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run output %s (-want +got):\n%s", id, diff)
	}
}

// checkExactVersion checks that the template tells what "latest" was.
func checkExactVersion(t *testing.T, l *buildtest.Lab, template string) {
	t.Helper()
	r, err := l.Engine.Resources().Get(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	var props struct {
		Source struct{ Version, ExactVersion string }
	}
	if err := json.Unmarshal(r.Properties, &props); err != nil {
		t.Fatal(err)
	}
	if props.Source.Version != "latest" || !strings.HasPrefix(props.Source.ExactVersion, "1.0.") {
		t.Errorf("the template's source after the run: %+v", props.Source)
	}
}

// checkStaging checks what is left in the staging group, and the log in it.
func checkStaging(t *testing.T, l *buildtest.Lab, rec run.Record) {
	t.Helper()
	template, err := l.Engine.FindTemplate(t.Context(), rec.Template)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := l.Engine.StagingGroup(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	group, err := l.Engine.Resources().Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{"createdBy": "AzureVMImageBuilder", "imageTemplateName": "first", "imageTemplateResourceGroupName": "images"}
	if diff := cmp.Diff(tags, group.Tags); diff != "" {
		t.Errorf("tags of the staging group (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(group.Name, "IT_images_first_") {
		t.Errorf("the staging group is called %s", group.Name)
	}
	text := l.StoredLog(rec, "customization.log")
	at := 0
	for _, marker := range []string{
		"PACKER OUT ==> build: prepare",
		"PACKER OUT (telemetry) Starting provisioner shell",
		"PACKER OUT     build: hello",
		"PACKER OUT (telemetry) ending hello after",
		"PACKER OUT (telemetry) Starting provisioner file",
		"PACKER OUT     build: waagent -force -deprovision+user",
		"PACKER OUT (telemetry) Finalizing. - This run took",
	} {
		i := strings.Index(text[at:], marker)
		if i < 0 {
			t.Errorf("customization.log lacks %q after byte %d:\n%s", marker, at, text)
			continue
		}
		at += i
	}
	if !strings.Contains(text, "PACKER ERR     build: oh") {
		t.Errorf("customization.log does not mark what the script wrote to stderr:\n%s", text)
	}
}

// checkChain checks the sealed layers of a run: warm state, then one per step.
func checkChain(t *testing.T, l *buildtest.Lab, rec run.Record) {
	t.Helper()
	warm := l.Layers(layer.Filter{Kind: layer.Memory})
	steps := l.Layers(layer.Filter{Kind: layer.Disk, Run: rec.ID})
	if len(warm) != 1 || len(steps) != 2 {
		t.Fatalf("%d warm layers and %d of steps, want 1 and 2", len(warm), len(steps))
	}
	if steps[0].Parent != warm[0].ID {
		steps[0], steps[1] = steps[1], steps[0]
	}
	if steps[0].Parent != warm[0].ID || steps[1].Parent != steps[0].ID {
		t.Errorf("the layers stand on %s, %s, %s", warm[0].Parent, steps[0].Parent, steps[1].Parent)
	}
	keys := map[string]bool{}
	for _, r := range append(warm, steps...) {
		m, err := layer.ManifestOf(r)
		if err != nil {
			t.Fatal(err)
		}
		if m.DiskBytes != buildtest.DiskBytes || r.Key == "" || keys[r.Key] {
			t.Errorf("layer %+v with manifest %+v", r, m)
		}
		keys[r.Key] = true
		// The last step only uploaded a file, which is not in the guest's journal.
		if wrote := len(m.Changed) > 0; wrote != (r.ID != steps[1].ID) {
			t.Errorf("layer %s changed %v", r.ID, m.Changed)
		}
		if (m.Saved != nil) != (r.Kind == layer.Memory) {
			t.Errorf("layer %s of kind %s has saved state %v", r.ID, r.Kind, m.Saved)
		}
	}
}

func TestLaterBuilds(t *testing.T) {
	l := buildtest.New(t)
	gallery := []buildtest.Object{l.ToGallery("golden", "", buildtest.Object{"versioning": buildtest.Object{"scheme": "Latest", "major": 1}})}
	first, events, err := l.Build(t.Context(), l.Request("first", buildtest.Template{Distribute: gallery}))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	if !events.Has(event.Decision, "booting Lab:linux:gen2:1.0.") {
		t.Errorf("the first build does not say that it boots:\n%s", events.Text())
	}
	l.CheckClean(first)

	second, events, err := l.Build(t.Context(), l.Request("second", buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("other", "echo other")}}))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	l.CheckClean(second)
	if events.Has(event.Decision, "booting") || !events.Has(event.Decision, "restored the booted base, saved") {
		t.Errorf("the second build does not restore:\n%s", events.Text())
	}

	version := l.ID("Microsoft.Compute/galleries/gal/images/golden/versions/1.0.1")
	if got := first.Outputs[0].ArtifactID; !strings.EqualFold(got, version) {
		t.Fatalf("the gallery version is %s, want %s", got, version)
	}
	for name, source := range map[string]string{"exact": version, "newest": strings.TrimSuffix(version, "1.0.1") + "latest"} {
		rec, events, err := l.Build(t.Context(), l.Request(name, buildtest.Template{
			Source:    buildtest.Object{"type": "SharedImageVersion", "imageVersionId": source},
			Customize: []buildtest.Object{buildtest.Shell("more", "echo more")},
		}))
		if err != nil {
			t.Fatalf("from %s: %v\n%s", name, err, events.Text())
		}
		l.CheckClean(rec)
		image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
		if err != nil {
			t.Fatal(err)
		}
		journal := strings.Join(l.Journal(image.Content.Image), "|")
		if !strings.Contains(journal, "script_1.sh: echo hello") || !strings.Contains(journal, "script_1.sh: echo more") || strings.Contains(journal, "other") {
			t.Errorf("built from %s, the image holds %s", name, journal)
		}
	}

	file := filepath.Join(l.Scratch, "base.raw")
	if err := buildtest.WriteBaseDisk(file); err != nil {
		t.Fatal(err)
	}
	req := l.Request("from-file", buildtest.Template{})
	req.Source = file
	rec, events, err := l.Build(t.Context(), req)
	if err != nil {
		t.Fatalf("from a file: %v\n%s", err, events.Text())
	}
	l.CheckClean(rec)
	if !events.Has(event.Info, "source "+file) {
		t.Errorf("the build does not say its source:\n%s", events.Text())
	}
}

func TestGrow(t *testing.T) {
	l := buildtest.New(t)
	for name, steps := range map[string][]buildtest.Object{"steps": nil, "none": {}} {
		rec, events, err := l.Build(t.Context(), l.Request(name, buildtest.Template{Customize: steps, VMProfile: buildtest.Object{"osDiskSizeGB": 1}}))
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, events.Text())
		}
		l.CheckClean(rec)
		image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
		if err != nil {
			t.Fatal(err)
		}
		if image.DiskBytes != 1<<30 {
			t.Errorf("%s: the image has %d bytes", name, image.DiskBytes)
		}
		if !slices.Contains(l.Journal(image.Content.Image), "grow to 1073741824") {
			t.Errorf("%s: the guest did not grow: %q", name, l.Journal(image.Content.Image))
		}
	}
}

func TestNoAgent(t *testing.T) {
	l := buildtest.New(t)
	l.SetScript(buildtest.Script{NoAgent: true})
	for _, name := range []string{"booted", "restored"} {
		rec, events, err := l.Build(t.Context(), l.Request(name, buildtest.Template{}))
		if err != nil {
			t.Fatal(err)
		}
		l.CheckClean(rec)
		if !events.Has(event.Warning, "has no Azure agent") || strings.Contains(events.Text(), "deprovision+user") {
			t.Errorf("%s: %s", name, events.Text())
		}
	}
}

// latestVersions is the highest gallery version of a definition.
func latestVersion(t *testing.T, l *buildtest.Lab, definition string) string {
	t.Helper()
	r, err := distribute.LatestVersion(t.Context(), l.Engine.Resources(), l.ID("Microsoft.Compute/galleries/gal/images/"+definition))
	if err != nil {
		t.Fatal(err)
	}
	return r.Name
}
