package build

import "goldsmith/internal/artifact"

// secrets is what of a job must not show in its events and logs: what grants
// access in the addresses of its artifacts, and in those of proxies that the
// guest is given.
func (e *Engine) secrets(j job) []string {
	var all []string
	for uri := range j.Artifacts {
		all = append(all, artifact.Secrets(uri)...)
	}
	for _, proxy := range []string{e.cfg.Guest.HTTPProxy, e.cfg.Guest.HTTPSProxy} {
		all = append(all, artifact.Secrets(proxy)...)
	}
	return all
}
