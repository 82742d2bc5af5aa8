package gateway

import (
	"net/netip"
	"sync"
)

const maxNames = 4096

// nameMemory remembers which name a guest resolved to reach an address. It
// keeps the newest maxNames addresses.
type nameMemory struct {
	mu    sync.Mutex
	names map[netip.Addr]string
	order []netip.Addr // ring of the keys of names, oldest at next once full
	next  int
}

func (m *nameMemory) learn(addr netip.Addr, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil {
		m.names = map[netip.Addr]string{}
	}
	if _, known := m.names[addr]; !known {
		if len(m.order) < maxNames {
			m.order = append(m.order, addr)
		} else {
			delete(m.names, m.order[m.next])
			m.order[m.next] = addr
			m.next = (m.next + 1) % maxNames
		}
	}
	m.names[addr] = name
}

// lookup is the name addr was last resolved from, "" if unknown.
func (m *nameMemory) lookup(addr netip.Addr) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[addr]
}
