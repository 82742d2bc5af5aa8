package build

import (
	"fmt"
	"io"

	"goldsmith/internal/arm"
	"goldsmith/internal/plan"
)

// GivenValue is a parameter or a secret that a run is given.
type GivenValue struct {
	Name    string
	Content []byte
	Secret  bool
	Version string // of a secret, for layer keys; "" for none
}

// maxValue is the largest parameter or secret, in bytes: it becomes an environment
// variable too.
const maxValue = 64 << 10

// checkValues returns what a plan knows of the values of a run, and the contents
// of its secrets, which no plan and no record holds.
func checkValues(given []GivenValue) (map[string]plan.Value, map[string][]byte, error) {
	values, secrets := map[string]plan.Value{}, map[string][]byte{}
	for _, g := range given {
		if err := plan.CheckValueName(g.Name); err != nil {
			return nil, nil, err
		}
		if _, twice := values[g.Name]; twice {
			return nil, nil, arm.Errorf(arm.CodeUsage, "%s is given twice", g.Name)
		}
		if len(g.Content) > maxValue {
			return nil, nil, arm.Errorf(arm.CodeUsage, "%s has %d bytes, more than %d: upload it by a File customizer", g.Name, len(g.Content), maxValue)
		}
		for _, c := range g.Content {
			if c == 0 {
				return nil, nil, arm.Errorf(arm.CodeUsage, "%s holds a zero byte, which no environment variable can", g.Name)
			}
		}
		v := plan.Value{Name: g.Name, Secret: g.Secret, Version: g.Version}
		if g.Secret {
			secrets[g.Name] = g.Content
		} else {
			v.Content = string(g.Content)
		}
		values[g.Name] = v
	}
	return values, secrets, nil
}

// secret is the content of a secret of the run.
func (b *builder) secret(name string) ([]byte, error) {
	if held, ok := b.engine.secretsOf.Load(b.active.id()); ok {
		if content, ok := held.(map[string][]byte)[name]; ok {
			return content, nil
		}
	}
	return nil, arm.Errorf(arm.CodeNotAllowed, "the secret %s is gone: secrets are kept in the memory of the process that was given them; start the build again", name)
}

// secretTexts are the contents of the run's secrets, to be kept out of its logs.
func (e *Engine) secretTexts(runID string) []string {
	held, ok := e.secretsOf.Load(runID)
	if !ok {
		return nil
	}
	var all []string
	for _, content := range held.(map[string][]byte) {
		all = append(all, string(content))
	}
	return all
}

// texts reads the frozen scripts that could use the values of a run.
func (e *Engine) texts(artifacts map[string]plan.Artifact, values map[string]plan.Value) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	texts := map[string]string{}
	for _, a := range artifacts {
		f, err := e.frozen.Open(a.SHA256)
		if err != nil {
			return nil, fmt.Errorf("open the frozen copy of %s: %w", a.URI, err)
		}
		text, err := io.ReadAll(io.LimitReader(f, 1<<20)) // a larger one is no script
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read the frozen copy of %s: %w", a.URI, err)
		}
		texts[a.SHA256] = string(text)
	}
	return texts, nil
}
