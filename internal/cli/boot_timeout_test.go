package cli

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
)

func TestBootTimeout(t *testing.T) {
	tests := map[string]struct {
		args []string
		want time.Duration
		code arm.Code
	}{
		"default":  {nil, build.DefaultBootTimeout, ""},
		"given":    {[]string{"--boot-timeout", "90s"}, 90 * time.Second, ""},
		"zero":     {[]string{"--boot-timeout", "0"}, 0, arm.CodeUsage},
		"negative": {[]string{"--boot-timeout=-1s"}, 0, arm.CodeUsage},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := &app{env: Env{Getenv: func(string) string { return "" }}, data: t.TempDir()}
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			a.host.register(flags)
			if err := flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			cfg, err := a.config()
			if arm.CodeOf(err) != test.code || cfg.BootTimeout != test.want {
				t.Errorf("config has boot timeout %v, error %v; want %v, code %q", cfg.BootTimeout, err, test.want, test.code)
			}
		})
	}
}
