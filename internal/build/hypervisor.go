package build

import (
	"context"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
)

// hypervisor finds what runs machines once, when it is needed first.
type hypervisor struct {
	find func(ctx context.Context) (machine.Hypervisor, string, error)

	mu    sync.Mutex
	found machine.Hypervisor
	how   string
}

// get is the hypervisor, and how it runs guests, for people. A failed look is
// repeated by the next caller.
func (h *hypervisor) get(ctx context.Context) (machine.Hypervisor, string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.found != nil {
		return h.found, h.how, nil
	}
	if h.find == nil {
		return nil, "", arm.Errorf(arm.CodeMissingTool, "no hypervisor is configured")
	}
	found, how, err := h.find(ctx)
	if err != nil {
		return nil, "", err
	}
	h.found, h.how = found, how
	return found, how, nil
}
