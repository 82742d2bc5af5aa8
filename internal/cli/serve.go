package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"goldsmith/internal/build"
	"goldsmith/internal/server"
)

// serveFlags are the flags of goldsmith serve.
type serveFlags struct {
	config string
	check  bool
	server.Settings
}

func (a *app) serveCommand() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve Azure's clients: az, SDKs, Terraform", Args: args(cobra.NoArgs),
		Long: `Serve the Azure Resource Manager interface on this host, over HTTPS.

The first start makes keys, a certificate authority, a tenant, a subscription and
an administrator, and prints what to do next. Settings come from a YAML file
(--config or $GOLDSMITH_CONFIG), the environment and flags; the later win. An
interrupt stops the service in good order: builds that go on begin again at the
next start.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := a.serveSettings(cmd.Flags(), flags)
			if err != nil {
				return err
			}
			if flags.check {
				if err := a.applyBuildSettings(cmd.Flags(), settings.Builds); err != nil {
					return err
				}
				if _, err := a.config(); err != nil {
					return err
				}
				fmt.Fprintln(a.env.Stdout, "the configuration is good")
				return nil
			}
			return a.serve(cmd.Context(), cmd.Flags(), settings)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.config, "config", "", "YAML file with settings (default $GOLDSMITH_CONFIG)")
	f.BoolVar(&flags.check, "check-config", false, "only check the settings")
	f.StringVar(&flags.Listen, "listen", "", "address to serve on (default "+server.DefaultListen+")")
	f.StringVar(&flags.URL, "url", "", "what clients reach the service as (default https://localhost:PORT)")
	f.StringVar(&flags.StorageSuffix, "storage-suffix", "", "end of storage hosts, with the port (default goldsmith.localhost:PORT)")
	f.IntVar(&flags.Slots, "slots", 0, "builds side by side (default half of the CPUs)")
	f.StringVar(&flags.Log.Format, "log-format", "", "text or json (default text)")
	f.StringVar(&flags.Log.Level, "log-level", "", "debug, info, warn or error (default info)")
	return cmd
}

// serveSettings are the settings of file, environment and flags.
func (a *app) serveSettings(set *pflag.FlagSet, flags serveFlags) (s server.Settings, err error) {
	path := flags.config
	if path == "" {
		path = a.env.Getenv("GOLDSMITH_CONFIG")
	}
	if path != "" {
		if s, err = server.ReadFile(path); err != nil {
			return s, err
		}
	}
	if err := s.Environment(a.env.Getenv); err != nil {
		return s, err
	}
	for name, copyFlag := range map[string]func(){
		"listen":         func() { s.Listen = flags.Listen },
		"url":            func() { s.URL = flags.URL },
		"storage-suffix": func() { s.StorageSuffix = flags.StorageSuffix },
		"slots":          func() { s.Slots = flags.Slots },
		"log-format":     func() { s.Log.Format = flags.Log.Format },
		"log-level":      func() { s.Log.Level = flags.Log.Level },
	} {
		if set.Changed(name) {
			copyFlag()
		}
	}
	return s, s.Check()
}

// applyBuildSettings puts the builds section of a configuration into the flags
// that the command line did not give.
func (a *app) applyBuildSettings(set *pflag.FlagSet, b server.BuildSettings) error {
	values := map[string][]string{
		"vm-size": b.VMSizes, "mirror": b.Mirrors, "allow-fetch": b.AllowFetch, "allow-egress": b.AllowEgress, "guest-mirror": b.GuestMirrors,
		"bridge": b.Bridges,
	}
	for name, v := range map[string]string{"accel": b.Accelerator, "ca-file": b.CAFile, "boot-timeout": b.BootTimeout} {
		if v != "" {
			values[name] = []string{v}
		}
	}
	for name, v := range map[string]bool{"guest-proxy": b.GuestProxy, "guest-ca": b.GuestCA} {
		if v {
			values[name] = []string{"true"}
		}
	}
	for name, list := range values {
		if set.Changed(name) {
			continue
		}
		for _, v := range list {
			if err := set.Set(name, v); err != nil {
				return fmt.Errorf("builds: %s: %w", name, err)
			}
		}
	}
	return nil
}

// serve runs the service until ctx ends.
func (a *app) serve(ctx context.Context, set *pflag.FlagSet, settings server.Settings) (err error) {
	start := time.Now()
	log, err := settings.Log.Logger(a.env.Stderr)
	if err != nil {
		return err
	}
	if err := a.applyBuildSettings(set, settings.Builds); err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	metrics := server.NewMetrics(log)
	cfg.Logger, cfg.Observe = log, metrics
	engine, err := build.Open(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := engine.Close(); err == nil {
			err = cerr
		}
	}()
	if err := engine.CheckBridges(ctx); err != nil {
		log.Warn("bridges", slog.Any("error", err))
	}
	s, err := server.New(ctx, server.Config{
		Data: cfg.Data, Settings: settings, Engine: engine, Version: a.env.Version, Log: log, Metrics: metrics, Notice: a.env.Stdout,
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	log.Info("ready", slog.Duration("start", time.Since(start).Round(time.Millisecond)))
	return s.Run(ctx)
}
