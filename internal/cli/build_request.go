package cli

import (
	"fmt"
	"os"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
)

// onErrorAsk keeps a failed step's guest and asks what to do with it.
const onErrorAsk = "ask"

// request is what the flags about the cache, values and failures say.
func (f buildFlags) request() (build.Request, error) {
	var r build.Request
	if f.maxAge < 0 || f.keep <= 0 {
		return r, arm.Errorf(arm.CodeUsage, "--max-age and --keep are times such as 24h, not negative ones")
	}
	r.Cache = build.CachePolicy{MaxAge: f.maxAge, Explain: f.explain, FromStep: f.fromStep}
	if f.noCache {
		r.Cache.MaxAge = 0
	}
	switch f.onError {
	case string(build.Keep), onErrorAsk:
		r.OnError = build.Keep
	case string(build.Clean):
		r.OnError = build.Clean
	default:
		return r, arm.Errorf(arm.CodeUsage, "--on-error is keep, clean or ask, not %q", f.onError)
	}
	r.Keep = f.keep
	for _, text := range f.params {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return r, arm.Errorf(arm.CodeUsage, "--param %q: give NAME=VALUE", text)
		}
		r.Values = append(r.Values, build.GivenValue{Name: name, Content: []byte(value)})
	}
	for _, text := range f.secrets {
		name, file, ok := strings.Cut(text, "=")
		if !ok || file == "" {
			return r, arm.Errorf(arm.CodeUsage, "--secret: give NAME=FILE or NAME@VERSION=FILE, the content of a secret never")
		}
		name, version, _ := strings.Cut(name, "@")
		content, err := os.ReadFile(file)
		if err != nil {
			return r, fmt.Errorf("--secret %s: %w", name, err)
		}
		r.Values = append(r.Values, build.GivenValue{Name: name, Content: content, Secret: true, Version: version})
	}
	return r, nil
}
