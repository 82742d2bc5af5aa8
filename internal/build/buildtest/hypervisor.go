package buildtest

import (
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest"
)

// Hypervisor runs healthy guests for engines on the data directory data, for
// programs that are tested as processes and have no Lab. The guests keep their
// files below the directory guests.
func Hypervisor(data, guests string) machine.Hypervisor {
	l := &Lab{Data: data, guests: guests}
	return machinetest.NewFake(func(b *machinetest.Board) machinetest.Guest { return newGuest(l, Script{}, b) })
}
