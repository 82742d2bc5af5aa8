package rbac

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// bigState is a subscription of 500 custom roles and n assignments, of which
// one makes alice's request allowed and ten others are hers.
func bigState(n int) (State, Request) {
	var s State
	for i := range 500 {
		s.Roles = append(s.Roles, custom(i, fmt.Sprint("role ", i), Permission{
			Actions: []string{
				fmt.Sprintf("Microsoft.Compute/type%d/*", i), fmt.Sprintf("Microsoft.Network/type%d/read", i),
				"Microsoft.Resources/*/read", fmt.Sprintf("Microsoft.Storage/type%d/*/action", i),
			},
			NotActions: []string{fmt.Sprintf("Microsoft.Compute/type%d/delete", i)},
		}))
	}
	const container = group + "/providers/Microsoft.Storage/storageAccounts/acct/blobServices/default/containers/scripts"
	for i := range n - 11 {
		s.Assignments = append(s.Assignments, assign(i, fmt.Sprintf("bbbbbbbb-0000-0000-0000-%012d", i%2000), s.Roles[i%500].ID,
			fmt.Sprintf("%s/resourceGroups/group%d", sub, i%700)))
	}
	for i, scope := range []string{sub, group, group, group + "/providers/Microsoft.Storage/storageAccounts/acct"} {
		s.Assignments = append(s.Assignments, assign(n+i, alice, s.Roles[i].ID, scope))
	}
	for i := range 6 {
		s.Assignments = append(s.Assignments, assign(n+10+i, alice, s.Roles[100+i].ID, group+"/providers/Microsoft.Compute/galleries/g"))
	}
	s.Assignments = append(s.Assignments, assign(n+20, team, StorageBlobDataReader, container))
	for i := range 200 {
		s.Memberships = append(s.Memberships, Membership{fmt.Sprintf("bbbbbbbb-0000-0000-0000-%012d", i), team})
	}
	s.Memberships = append(s.Memberships, Membership{alice, team})
	return s, Request{
		Principal: alice, Groups: []string{"cccccccc-0000-0000-0000-000000000001"},
		Action: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", Scope: container + "/blobs/install.sh", Data: true,
	}
}

// BenchmarkCheck measures the deepest scope that there is, allowed by a group's
// assignment at its end, and reports the median.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("assignments=%d", n), func(b *testing.B) {
			s, r := bigState(n)
			p := Compile(s)
			if !p.Check(r).Allowed {
				b.Fatal("denied")
			}
			b.ReportAllocs()
			var times []time.Duration
			const batch = 100 // a clock read costs as much as a check
			for b.Loop() {
				start := time.Now()
				for range batch {
					p.Check(r)
				}
				times = append(times, time.Since(start)/batch)
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "median-ns/check")
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	s, _ := bigState(10_000)
	for b.Loop() {
		Compile(s)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	s, r := bigState(10_000)
	p := Compile(s)
	if n := testing.AllocsPerRun(100, func() { p.Check(r) }); n != 0 {
		t.Errorf("%v allocations in a check", n)
	}
}
