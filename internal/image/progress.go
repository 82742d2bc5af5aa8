package image

import "sync"

// Progress is told, now and then, how many bytes of a known total are done.
// Calls come one at a time, with growing done. It must not block. nil is
// allowed.
type Progress func(done, total int64)

// meter adds up what several workers have done.
type meter struct {
	mu          sync.Mutex
	report      Progress
	done, total int64
}

func newMeter(report Progress, total int64) *meter {
	m := &meter{report: report, total: total}
	m.add(0)
	return m
}

func (m *meter) add(n int64) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.report(m.done, m.total)
}
