package build

import (
	"fmt"
	"testing"
	"time"

	"goldsmith/internal/layer"
	"goldsmith/internal/plan"
	"goldsmith/internal/queue"
	"goldsmith/internal/store/memory"
)

// A build goes on behind the last step whose memory was saved with its disk. From a
// disk alone it goes on only behind a step that restarted the guest: what else the
// steps before left in memory, such as a file in /tmp, the next one would miss.
func TestWhereABuildGoesOn(t *testing.T) {
	const fingerprint = "this hypervisor"
	for _, c := range []struct {
		saved  string // of each step: d for a disk, m for memory beside, - for nothing
		reboot string // x for a step that restarts the guest
		want   int    // steps that need not run
		disk   bool   // goes on by booting a disk
	}{
		{saved: "mmm", reboot: "...", want: 3},
		{saved: "mmd", reboot: "...", want: 2},
		{saved: "ddd", reboot: "...", want: 0},
		{saved: "ddd", reboot: "..x", want: 3, disk: true},
		{saved: "ddd", reboot: ".x.", want: 2, disk: true},
		{saved: "ddm", reboot: ".x.", want: 3},
		{saved: "mdd", reboot: ".x.", want: 2, disk: true},
		{saved: "dm-", reboot: ".x.", want: 2},
		{saved: "d-d", reboot: "..x", want: 0},
		{saved: "---", reboot: "xxx", want: 0},
	} {
		t.Run(c.saved+c.reboot, func(t *testing.T) {
			index := memory.New().Layers()
			b := &builder{
				launcher: launcher{engine: &Engine{layers: index}}, active: &activeRun{lease: &queue.Lease{}},
				plan: &plan.Plan{}, fingerprint: fingerprint,
			}
			b.job.Cache.MaxAge = time.Hour
			parent := ""
			for i, saved := range c.saved {
				key := fmt.Sprint("key ", i)
				b.keys.Steps = append(b.keys.Steps, key)
				b.plan.Steps = append(b.plan.Steps, plan.Step{Name: fmt.Sprint("step ", i), Reboot: c.reboot[i] == 'x'})
				m := layer.Manifest{Oldest: time.Now()}
				if saved == 'm' {
					m.Saved = &layer.Saved{Fingerprint: fingerprint, Whole: true}
				}
				text, err := m.Encode()
				if err != nil {
					t.Fatal(err)
				}
				disk := layer.Record{ID: layer.NewID(), Key: key, Kind: layer.Disk, Parent: parent, Run: "an earlier one", Manifest: text}
				above := layer.Record{ID: layer.NewID(), Key: plan.MemoryKey(key, fingerprint), Kind: layer.Memory, Parent: disk.ID, Run: disk.Run, Manifest: text}
				for _, r := range map[rune][]layer.Record{'d': {disk}, 'm': {disk, above}}[saved] {
					if _, _, err := index.Insert(t.Context(), r); err != nil {
						t.Fatal(err)
					}
					parent = disk.ID
				}
			}
			hit, verdicts, err := b.lookup(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if hit.steps != c.want || (hit.steps > 0 && (hit.memory.ID == "") != c.disk) {
				t.Errorf("it goes on behind step %d with memory %q, want %d", hit.steps, hit.memory.ID, c.want)
			}
			for i, v := range verdicts {
				if (i < hit.steps) == v.at.IsZero() {
					t.Errorf("step %d: %+v", i, v)
				}
			}
		})
	}
}
