package customize

import (
	"bytes"
	"context"
	"io"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
	"goldsmith/internal/plan"
)

// valuesDir is where a step finds its parameters and secrets, a file each. It is
// in the guest's memory and never on its disk.
const valuesDir = "/dev/shm/goldsmith"

// environment is the file below valuesDir that sets them as variables.
const environment = ".environment"

// give hands step its parameters and secrets, and returns the command that runs
// script with them.
func (r Runner) give(ctx context.Context, step plan.Step, script string) (string, error) {
	if len(step.Values) == 0 {
		return script, nil
	}
	if err := r.must(ctx, "rm -rf "+valuesDir+" && umask 077 && mkdir "+valuesDir); err != nil {
		return "", err
	}
	var env strings.Builder
	for _, v := range step.Values {
		content := []byte(v.Content)
		if v.Secret {
			var err error
			if content, err = r.Secret(v.Name); err != nil {
				return "", err
			}
		}
		if err := r.put(ctx, v, content, valuesDir+"/"+v.Name); err != nil {
			return "", err
		}
		// A file's last line feed is no part of a variable, as in $(cat FILE).
		env.WriteString(v.Name + "=" + quote(strings.TrimSuffix(string(content), "\n")) + "\nexport " + v.Name + "\n")
	}
	all := plan.Value{Secret: len(step.Secrets()) > 0}
	if err := r.put(ctx, all, []byte(env.String()), valuesDir+"/"+environment); err != nil {
		return "", err
	}
	return "GOLDSMITH_VALUES=" + valuesDir + " && export GOLDSMITH_VALUES && . " + valuesDir + "/" + environment + " && exec " + script, nil
}

// put writes a value. A secret does not travel in a command line, which others in
// the guest can see.
func (r Runner) put(ctx context.Context, v plan.Value, content []byte, dest string) error {
	if v.Secret {
		return r.Session.Upload(ctx, bytes.NewReader(content), dest[strings.LastIndexByte(dest, '/')+1:], dest, 0o600)
	}
	return guest.WriteFile(ctx, r.Session, content, dest, 0o600)
}

// wipe overwrites and removes what the step was given.
func (r Runner) wipe(ctx context.Context, step plan.Step) error {
	if len(step.Values) == 0 {
		return nil
	}
	return r.must(ctx, "find "+valuesDir+" -type f -exec shred -n 1 -z {} + ; rm -rf "+valuesDir)
}

// must runs a command of the builder's own, which has to succeed.
func (r Runner) must(ctx context.Context, command string) error {
	var stderr bytes.Buffer
	exit, err := r.Session.Run(ctx, command, io.Discard, &stderr)
	if err != nil {
		return err
	}
	if exit != 0 {
		return arm.Errorf(arm.CodeStepFailed, "%s ended with status %d: %s", command, exit, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// quote is text as one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
