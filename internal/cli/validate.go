package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
)

// maxTemplate bounds what is read of a template, in bytes; the parser refuses
// far smaller ones.
const maxTemplate = 64 << 20

// templateFlags say how to read a template file.
type templateFlags struct {
	set        []string
	parameters string // file
	apiVersion string
}

func (f *templateFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.set, "set", nil, "fill the placeholder <NAME>, or a deployment template's parameter NAME, with VALUE (NAME=VALUE, repeatable)")
	flags.StringVar(&f.parameters, "parameters", "", "take the parameters of a deployment template from FILE")
	flags.StringVar(&f.apiVersion, "api-version", "", "API version of the template (default its apiVersion)")
}

// options are the parser's options; subscription fills <subscriptionID>.
func (f *templateFlags) options(subscription string, lenient bool) (imagetemplate.Options, error) {
	o := imagetemplate.Options{APIVersion: f.apiVersion, Set: map[string]string{}, Defaults: map[string]string{}, AllowPlaceholders: lenient}
	for _, s := range f.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return o, arm.Errorf(arm.CodeUsage, "--set %q is not NAME=VALUE", s)
		}
		o.Set[name] = value
	}
	if subscription != "" {
		for _, name := range []string{"subscriptionID", "subscriptionId", "subscription", "subscription_id"} {
			o.Defaults[name] = subscription
		}
	}
	return o, nil
}

// templateFile is a template as it was read.
type templateFile struct {
	path string // as the user wrote it; "<stdin>" for "-"
	dir  string // what relative paths in it are relative to
	body []byte
}

// readTemplate reads a template file; "-" is standard input.
func (a *app) readTemplate(path string) (templateFile, error) {
	if path == "-" {
		body, err := io.ReadAll(io.LimitReader(a.env.Stdin, maxTemplate+1))
		if err != nil {
			return templateFile{}, fmt.Errorf("read the template from standard input: %w", err)
		}
		dir, err := os.Getwd()
		return templateFile{path: "<stdin>", dir: dir, body: body}, err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return templateFile{}, arm.Errorf(arm.CodeUsage, "read the template: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	return templateFile{path: path, dir: dir, body: body}, err
}

// name is the template's name: its own, or the file's.
func (f templateFile) name(t *imagetemplate.Template) string {
	if t != nil && t.Name != "" {
		return t.Name
	}
	base := filepath.Base(f.path)
	if base == "<stdin>" {
		return "template"
	}
	return strings.TrimSuffix(base, filepath.Ext(base))
}

func (a *app) validateCommand() *cobra.Command {
	var flags templateFlags
	format := FormatTable
	cmd := &cobra.Command{
		Use:   "validate TEMPLATE",
		Short: "Check an image template and list everything that is wrong with it",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			file, err := a.readTemplate(list[0])
			if err != nil {
				return err
			}
			options, err := flags.options(uuid.Nil.String(), true) // a build fills in the local one
			if err != nil {
				return err
			}
			res, err := flags.parse(file, options, placeOf("", ""))
			if err != nil {
				return err
			}
			if err := WriteProblems(a.env.Stdout, format, file.path, res.Problems); err != nil {
				return err
			}
			if err := ProblemsError(file.path, res.Problems, false); err != nil {
				return &shownError{err}
			}
			if format != FormatJSON {
				fmt.Fprintf(a.env.Stdout, "%s: valid\n", file.path)
			}
			return nil
		},
	}
	flags.register(cmd.Flags())
	formatFlag(cmd.Flags(), &format)
	return cmd
}

// formatFlag is -o/--format.
func formatFlag(flags *pflag.FlagSet, f *Format) {
	flags.VarP(f, "format", "o", "print as table or json")
}
