package imagetemplate

import (
	"time"

	"goldsmith/internal/arm"
)

// Defaults of WindowsRestart, WindowsUpdate and PowerShell, as the real
// service documents them.
const (
	defaultRestartCommand = `shutdown /r /f /t 0 /c "packer restart"`
	defaultRestartTimeout = 5 * time.Minute
	defaultUpdateLimit    = 1000
)

// step is one customizer or validator.
func (r *reader) step(m *members) Customizer {
	c := Customizer{Type: StepType(m.variant), Name: m.text("name"), Pointer: m.at.pointer}
	switch c.Type {
	case Shell:
		r.script(m, &c)
	case PowerShell:
		r.script(m, &c)
		c.RunElevated, c.RunAsSystem = m.flag("runElevated"), m.flag("runAsSystem")
		c.ValidExitCodes = m.numbers("validExitCodes")
		if len(c.ValidExitCodes) == 0 {
			c.ValidExitCodes = []int{0}
		}
		if elevated := m.get("runElevated"); c.RunAsSystem && !c.RunElevated && (elevated == nil || !elevated.open) {
			r.report.bad(m.place("runAsSystem"), "true", "runAsSystem may be true only when runElevated is true")
		}
	case File:
		c.SourceURI, c.SHA256 = r.artifact(m, "sourceUri"), r.checksum(m, "sourceUri")
		c.Destination = m.text("destination")
		if v := m.get("destination"); !v.empty() && !v.open {
			if why := plainDestination(v.text); why != "" {
				r.report.bad(v.at, v.text, "%s", why)
			}
		}
	case WindowsRestart:
		c.RestartCommand = m.textOr("restartCommand", defaultRestartCommand)
		c.RestartCheckCommand = m.text("restartCheckCommand")
		c.RestartTimeout = r.restartTimeout(m)
	case WindowsUpdate:
		c.SearchCriteria = m.text("searchCriteria")
		c.Filters = m.texts("filters")
		if c.UpdateLimit = m.number("updateLimit", 0); c.UpdateLimit == 0 {
			c.UpdateLimit = defaultUpdateLimit
		}
	}
	return c
}

// script reads what a Shell or PowerShell step runs: exactly one of an address
// and inline commands.
func (r *reader) script(m *members, c *Customizer) {
	c.Inline = m.texts("inline")
	c.ScriptURI, c.SHA256 = r.artifact(m, "scriptUri"), r.checksum(m, "scriptUri")
	address := m.shape.spelling("scriptUri", r.version)
	switch {
	case m.tried("scriptUri") && m.tried("inline"):
		r.report.fail(m.at, arm.CodeValidationFailed,
			"'%s' has both '%s' and 'inline': a step runs exactly one of them, remove the other", m.at.path(), address)
	case !m.tried("scriptUri") && !m.tried("inline"):
		cause := "exactly one of " + address + " and inline is needed"
		if r.version < v2019Feb {
			cause = ""
		}
		r.report.missing(m.at, address, cause)
	}
}

func (r *reader) restartTimeout(m *members) time.Duration {
	v := m.get("restartTimeout")
	if v.empty() || v.open {
		return defaultRestartTimeout
	}
	d, err := time.ParseDuration(v.text)
	if err != nil || d <= 0 {
		r.report.bad(v.at, v.text, "it must be a number with a unit, like 5m or 1h30m")
		return defaultRestartTimeout
	}
	return d
}

// validate is nil when the template has none.
func (r *reader) validate(m *members) *Validate {
	if m == nil {
		return nil
	}
	v := &Validate{
		ContinueDistributeOnFailure: m.flag("continueDistributeOnFailure"),
		SourceValidationOnly:        m.flag("sourceValidationOnly"),
	}
	for _, s := range m.objects("inVMValidations") {
		v.InVM = append(v.InVM, r.step(s))
	}
	return v
}
