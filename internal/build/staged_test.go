package build_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/resource"
)

// While a step runs, what the build needs is in the staging group.
func TestTheStagingGroupHoldsWhatABuildNeeds(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	var during []string
	events := &buildtest.Recording{On: func(ev event.Event) {
		if ev.Kind != event.StepStarted {
			return
		}
		all, _, err := l.Engine.Resources().List(t.Context(), resource.Query{})
		if err != nil {
			t.Error(err)
		}
		for _, r := range all {
			if strings.Contains(strings.ToLower(r.ID), "/resourcegroups/it_") {
				during = append(during, r.Type)
			}
		}
	}}
	if _, err := l.Engine.Build(t.Context(), l.Request("staged", buildtest.Template{}), events); err != nil {
		t.Fatal(err)
	}
	slices.Sort(during)
	if diff := cmp.Diff([]string{
		"Microsoft.Compute/disks", "Microsoft.Compute/virtualMachines", "Microsoft.Network/networkInterfaces",
		"Microsoft.Network/networkSecurityGroups", "Microsoft.Network/publicIPAddresses", "Microsoft.Network/virtualNetworks",
		"Microsoft.Resources/resourceGroups", "Microsoft.Storage/storageAccounts",
	}, slices.Compact(during)); diff != "" {
		t.Error(diff)
	}
}
