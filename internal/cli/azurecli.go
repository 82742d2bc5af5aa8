package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/server"
)

func (a *app) azureCommand() *cobra.Command {
	return group("azure-cli", "Set the az command up for the service", a.azureSetup())
}

// setupFlags are the flags of goldsmith azure-cli setup.
type setupFlags struct {
	print  bool
	cloud  string
	bundle string
}

func (a *app) azureSetup() *cobra.Command {
	flags := setupFlags{cloud: "goldsmith"}
	cmd := &cobra.Command{
		Use: "setup", Short: "Register the service as az's cloud, trust its authority, sign in", Args: args(cobra.NoArgs),
		Long: `Register the service of this data directory as a cloud of the az command, and sign
in as its administrator or the service principal of --client-id. Each az command is printed
before it runs.

az has one setting for certificates, the variable REQUESTS_CA_BUNDLE, and keeps
none itself: set it in your shell as printed. It names a copy of the system's
certificates with the service's authority at its end.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setUpAzure(cmd.Context(), flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.print, "print", false, "only print the commands")
	f.StringVar(&flags.cloud, "cloud", flags.cloud, "name of the cloud in az")
	f.StringVar(&flags.bundle, "system-ca", "/etc/ssl/certs/ca-certificates.crt", "the system's certificates")
	return cmd
}

func (a *app) setUpAzure(ctx context.Context, flags setupFlags) error {
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	d, err := server.ReadDescription(dir)
	if err != nil {
		return err
	}
	app, secret, err := setupCredentials(dir, a.server)
	if err != nil {
		return err
	}
	env := []string{"AZURE_CORE_COLLECT_TELEMETRY=no"}
	if d.Authority != "" {
		bundle := filepath.Join(dir, "tls", "bundle.pem")
		fmt.Fprintf(a.env.Stdout, "export REQUESTS_CA_BUNDLE=%s\n", shellWord(bundle))
		env = append(env, "REQUESTS_CA_BUNDLE="+bundle)
		if !flags.print {
			if err := writeBundle(bundle, flags.bundle, d.Authority); err != nil {
				return err
			}
		}
	}
	register := "register"
	if !flags.print {
		path, err := exec.LookPath("az")
		if err != nil {
			return arm.Errorf(arm.CodeMissingTool, "there is no az command in PATH: install the Azure CLI, or see the commands with --print")
		}
		if exec.CommandContext(ctx, path, "cloud", "show", "--name", flags.cloud).Run() == nil {
			register = "update" // of an earlier setup
		}
	}
	for _, words := range [][]string{
		{"cloud", register, "--name", flags.cloud, "--endpoint-resource-manager", d.URL},
		{"cloud", "set", "--name", flags.cloud},
		{"login", "--service-principal", "--username", app, "--password", "@" + secret, "--tenant", d.Tenant, "--output", "none"},
		{"account", "set", "--subscription", d.Subscription},
	} {
		fmt.Fprintln(a.env.Stdout, "az "+shellLine(words))
		if flags.print {
			continue
		}
		cmd := exec.CommandContext(ctx, "az", words...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stdout, cmd.Stderr = a.env.Stdout, a.env.Stderr
		if err := cmd.Run(); err != nil {
			return arm.Errorf(arm.CodeUsage, "az %s did not succeed: %w", words[0]+" "+words[1], err)
		}
	}
	return nil
}

// setupCredentials are what az signs in with: an application, and the file with
// its secret. az reads the file itself, so that the secret is on no command line.
func setupCredentials(dir string, flags serverFlags) (app, secretFile string, err error) {
	if (flags.client == "") != (flags.secret == "") {
		return "", "", arm.Errorf(arm.CodeUsage, "--client-id and --client-secret-file belong together")
	}
	if flags.client != "" {
		secretFile, err = filepath.Abs(flags.secret)
		return flags.client, secretFile, err
	}
	admin, err := server.ReadAdministrator(dir)
	return admin.App, server.AdministratorSecret(dir), err
}

// writeBundle writes the system's certificates with one more.
func writeBundle(path, system, authority string) error {
	body, err := os.ReadFile(authority)
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "read the certificate authority: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "write the certificate bundle: %w", err)
	}
	defer f.Close()
	if s, err := os.Open(system); err == nil { // a host without any has only ours
		_, err = io.Copy(f, s)
		_ = s.Close()
		if err != nil {
			return arm.Errorf(arm.CodeUsage, "copy %s: %w", system, err)
		}
	}
	if _, err := f.Write(append([]byte("\n"), body...)); err != nil {
		return arm.Errorf(arm.CodeUsage, "write the certificate bundle: %w", err)
	}
	return f.Close()
}

// shellLine is words as a shell reads them.
func shellLine(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
	}
	return strings.Join(out, " ")
}

// shellWord is a word as a shell reads it.
func shellWord(w string) string {
	if w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+", r)
	}) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
