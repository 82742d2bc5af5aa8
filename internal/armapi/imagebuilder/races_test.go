package imagebuilder_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
)

// together sends requests at once and returns their statuses, in order.
func together(d *imagebuildertest.Door, requests ...func() imagebuildertest.Answer) []int {
	statuses := make([]int, len(requests))
	start := make(chan struct{})
	var group sync.WaitGroup
	for i, send := range requests {
		group.Go(func() {
			<-start
			statuses[i] = send().Status
		})
	}
	close(start)
	group.Wait()
	return statuses
}

// Of several creators at once one creates, and the others get what they would
// get after it.
func TestPutsAtOnce(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version, many = "2022-07-01", 8
	for name, late := range map[string]int{"same": http.StatusOK, "other": http.StatusConflict} {
		var puts []func() imagebuildertest.Answer
		for i := range many {
			in := body(d, name, nil)
			if name == "other" {
				in["tags"] = object{"number": fmt.Sprint(i)}
			}
			puts = append(puts, func() imagebuildertest.Answer { return d.Do("PUT", d.Template(name, version), in) })
		}
		statuses := together(d, puts...)
		slices.Sort(statuses)
		want := slices.Repeat([]int{late}, many)
		want[0] = http.StatusCreated
		slices.Sort(want)
		if !slices.Equal(statuses, want) {
			t.Errorf("%s: %v", name, statuses)
		}
		d.Provisioned(d.ID("Microsoft.VirtualMachineImages/imageTemplates/" + name))
	}
}

// A delete and a run at once: one of them is refused.
func TestDeleteRacesRun(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(2)
	const version = "2022-07-01"
	for i := range 6 {
		name := fmt.Sprint("t", i)
		made(d, name, version, nil)
		statuses := together(d,
			func() imagebuildertest.Answer { return d.Do("POST", action(d, name, "run", version), nil) },
			func() imagebuildertest.Answer { return d.Do("DELETE", d.Template(name, version), nil) },
		)
		run, gone := statuses[0], statuses[1]
		won := run == http.StatusAccepted && gone == http.StatusMethodNotAllowed
		lost := gone == http.StatusAccepted && (run == http.StatusMethodNotAllowed || run == http.StatusNotFound)
		if !won && !lost {
			t.Errorf("run %d, delete %d", run, gone)
		}
	}
}

// BenchmarkPut makes templates one after the other and says how long the slowest
// hundredth took, and how fast accepted ones are provisioned.
func BenchmarkPut(b *testing.B) {
	d := imagebuildertest.New(b)
	d.Serve(1)
	took := make([]time.Duration, 0, b.N)
	start := time.Now()
	last := ""
	for i := range b.N {
		name := fmt.Sprint("t", i)
		in := body(d, name, nil)
		begun := time.Now()
		d.Want(http.StatusCreated, "PUT", d.Template(name, "2022-07-01"), in)
		took = append(took, time.Since(begun))
		last = name
	}
	d.Provisioned(d.ID("Microsoft.VirtualMachineImages/imageTemplates/" + last))
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "provisioned/s")
}
