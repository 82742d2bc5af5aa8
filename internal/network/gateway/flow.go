package gateway

import (
	"net/netip"
	"sync"
)

// Flow is one outside connection that a guest made or tried.
type Flow struct {
	Protocol string         // "tcp", "udp", or "dns" for an answer that was withheld
	Remote   netip.AddrPort // as the guest asked for it
	Name     string         // the DNS name it was resolved from, "" if unknown
	Allowed  bool
	Reason   string // why it was refused or could not be opened, else ""
	Sent     int64  // bytes from the guest, when it ended
	Received int64  // bytes to the guest, when it ended
	Ended    bool   // false when reported at its start
}

// maxRefusals bounds how many different refusals are told: a guest that scans
// must not fill the record of its build.
const maxRefusals = 1024

// flowLog reports flows, and of equal refusals only the first.
type flowLog struct {
	report func(Flow)

	mu      sync.Mutex
	refused map[Flow]struct{}
}

func newFlowLog(report func(Flow)) *flowLog {
	if report == nil {
		report = func(Flow) {}
	}
	return &flowLog{report: report, refused: map[Flow]struct{}{}}
}

// refuse reports f as ended without having been opened.
func (l *flowLog) refuse(f Flow, reason string) {
	f.Reason, f.Ended = reason, true
	l.mu.Lock()
	_, told := l.refused[f]
	told = told || len(l.refused) >= maxRefusals
	if !told {
		l.refused[f] = struct{}{}
	}
	l.mu.Unlock()
	if !told {
		l.report(f)
	}
}

// begin reports f as open.
func (l *flowLog) begin(f Flow) { l.report(f) }

// end reports f with what it carried.
func (l *flowLog) end(f Flow, sent, received int64) {
	f.Sent, f.Received, f.Ended = sent, received, true
	l.report(f)
}
