package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// bench is what the scenarios share: the data directory with a warm base, and the
// recipe that all run.
type bench struct {
	options
	report  *report
	work    string
	datadir string
	recipe  *recipe
	booting float64 // MB, of the machine that booted the base; 0 when none did
	count   int     // names and texts that nobody used before
}

// scenarios measures the builds that people repeat.
func scenarios(ctx context.Context, r *report, o options, work string) error {
	if o.letters == "none" {
		return nil
	}
	recipe, err := newRecipe(filepath.Join(work, "recipe"))
	if err != nil {
		return err
	}
	b := &bench{options: o, report: r, work: work, datadir: filepath.Join(work, "data"), recipe: recipe}
	if o.data != "" {
		if b.datadir, err = filepath.Abs(o.data); err != nil {
			return err
		}
	}
	pull := exec.CommandContext(ctx, b.binary, "--data", b.datadir, "catalog", "pull", "Debian:debian-12:12-gen2:latest")
	if text, err := pull.CombinedOutput(); err != nil {
		return fmt.Errorf("pull the base: %w\n%s", err, text)
	}
	// The first build of the base boots it; nothing else is measured with that.
	watched := watchMachines(b.datadir)
	first, err := b.build(ctx, recipe, "bench")
	samples := watched()
	if err != nil {
		return err
	}
	if first.booted {
		b.booting = peak(samples, 1, first.firstAt)
		b.add("C first build of a base", "", first)
	}
	rivals, err := b.newRivals(ctx)
	if err != nil {
		return err
	}
	for range b.runs {
		for _, s := range []struct {
			letter string
			do     func(context.Context) error
		}{
			{"C", b.cold}, {"N", b.same}, {"L", b.last}, {"M", b.middle}, {"V", b.onNetwork}, {"F", b.fixed}, {"P", b.pair}, {"X", b.four}, {"R", b.replicated},
		} {
			if !strings.Contains(b.letters, s.letter) {
				continue
			}
			if err := s.do(ctx); err != nil {
				return fmt.Errorf("scenario %s: %w", s.letter, err)
			}
		}
		for _, rival := range rivals {
			if err := rival(ctx); err != nil {
				return err
			}
		}
	}
	if strings.Contains(b.letters, "B") {
		if err := b.bases(ctx); err != nil {
			return fmt.Errorf("scenario B: %w", err)
		}
	}
	return nil
}

// fresh is a text that no build had before.
func (b *bench) fresh() string {
	b.count++
	return fmt.Sprintf("echo change %d-%d | sudo tee /etc/changed", os.Getpid(), b.count)
}

// build builds a recipe under a name.
func (b *bench) build(ctx context.Context, r *recipe, name string, flags ...string) (built, error) {
	path, err := r.template(name)
	if err != nil {
		return built{}, err
	}
	return build(ctx, b.binary, b.datadir, path, flags...)
}

// add reports a build: in all, beside the guest's own work, and that work's share.
func (b *bench) add(scenario, note string, runs ...built) {
	for _, run := range runs {
		b.report.join(scenario, "in all", "s", note, run.total)
		b.report.join(scenario, "beyond the guest's work", "s", "", run.total-run.work())
		b.report.join(scenario, "guest's share", "%", "", 100*run.work()/run.total)
	}
}

// cold runs every step on a base that is known.
func (b *bench) cold(ctx context.Context) error {
	run, err := b.build(ctx, b.recipe, "bench", "--no-cache")
	if err == nil {
		b.add("C cold", "to reach: beyond the guest's work at most a sixth of packer's", run)
		b.report.join("C cold", "command to first step", "s", "to reach: at most 2 s", run.first)
	}
	return err
}

// same changes nothing.
func (b *bench) same(ctx context.Context) error {
	run, err := b.build(ctx, b.recipe, "bench")
	if err == nil {
		b.report.join("N nothing changed", "command to references", "s", "to reach: at most 1 s", run.published)
	}
	return err
}

// last changes the last step.
func (b *bench) last(ctx context.Context) error {
	run, err := b.build(ctx, b.recipe.also(5, b.fresh()), "bench")
	if err == nil {
		b.add("L last step changed", "to reach: at most 5 s beyond the guest's work", run)
		b.report.join("L last step changed", "steps cached", "", "of 5", float64(run.cached))
	}
	return err
}

// middle changes the third step.
func (b *bench) middle(ctx context.Context) error {
	run, err := b.build(ctx, b.recipe.also(3, b.fresh()), "bench")
	if err == nil {
		b.add("M middle step changed", "to reach: at most 5 s beyond the guest's work", run)
		b.report.join("M middle step changed", "steps cached", "", "of 5", float64(run.cached))
	}
	return err
}

// fixed lets step 4 fail, corrects it and builds again.
func (b *bench) fixed(ctx context.Context) error {
	line := b.fresh()
	start := time.Now()
	if _, err := b.build(ctx, b.recipe.with(4, line+"\nexit 3\n"), "bench"); err == nil {
		return fmt.Errorf("step 4 did not fail")
	}
	failed := time.Since(start).Seconds()
	run, err := b.build(ctx, b.recipe.also(4, line), "bench")
	if err == nil {
		b.report.join("F step 4 fails", "until it failed", "s", "its guest is kept", failed)
		b.add("F step 4 corrected", "", run)
	}
	return err
}

// pair builds two templates at once that have three steps in common.
func (b *bench) pair(ctx context.Context) error {
	shared := b.recipe.also(2, b.fresh())
	start := time.Now()
	runs := make([]built, 2)
	g, gctx := errgroup.WithContext(ctx)
	for i := range runs {
		own := shared.also(4, b.fresh())
		g.Go(func() (err error) {
			runs[i], err = b.build(gctx, own, fmt.Sprint("pair", i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.report.join("P two that share three steps", "both", "s", "", time.Since(start).Seconds())
	b.report.join("P two that share three steps", "steps not run", "", "at least 3: each that they share ran once, or was known", float64(runs[0].cached+runs[1].cached))
	return nil
}

// four builds four at once, every step of each, and before that one alone.
func (b *bench) four(ctx context.Context) error {
	one := b.recipe.also(3, b.fresh())
	watched := watchMachines(b.datadir)
	_, err := b.build(ctx, one, "alone", "--no-cache")
	alone := peak(watched(), 1, time.Now())
	if err != nil {
		return err
	}
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	watched = watchMachines(b.datadir)
	for i := range 4 {
		own := b.recipe.also(3, b.fresh())
		g.Go(func() error {
			_, err := b.build(gctx, own, fmt.Sprint("four", i), "--no-cache")
			return err
		})
	}
	err = g.Wait()
	samples := watched()
	if err != nil {
		return err
	}
	const section = "X four at once"
	b.report.join(section, "all", "s", "two CPUs", time.Since(start).Seconds())
	b.report.join(section, "one machine alone, at most", "MB", "PSS; tb-size 128 MiB; with the base's memory, which all share", alone)
	if b.booting > 0 {
		b.report.join(section, "the machine that boots the base, at most", "MB", "PSS; tb-size 128 MiB", b.booting)
	}
	if together := peak(samples, 4, time.Now()); together > 0 {
		b.report.join(section, "each further machine adds", "MB", "to reach: half of what the machine takes that boots the base", (together-alone)/3)
	}
	return nil
}
