package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/plan"
)

func (a *app) imageCommand() *cobra.Command {
	return group("image", "List, export, boot and delete images",
		a.imageList(), a.imageShow(), a.imageExport(), a.imageBoot(), a.imageDiff(), a.imageDelete())
}

// imageView is an image as lists and records show it.
type imageView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"` // "image", or "gallery/definition/version"
	Kind        string            `json:"kind"` // ManagedImage or SharedImage
	Location    string            `json:"location"`
	OS          plan.OS           `json:"os"`
	Generation  int               `json:"generation"`
	DiskBytes   int64             `json:"diskBytes"`
	StoredBytes int64             `json:"storedBytes,omitempty"`
	Content     string            `json:"content"` // content id in the image store
	Run         string            `json:"run,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
}

func viewImage(i build.Image) imageView {
	return imageView{
		ID: i.ID, Name: i.ShortName(), Kind: i.Kind, Location: i.Location, OS: i.OS, Generation: i.Generation,
		DiskBytes: i.DiskBytes, StoredBytes: i.StoredBytes, Content: i.Content.Image, Run: i.Run, Tags: i.Tags, CreatedAt: i.CreatedAt,
	}
}

func (a *app) imageList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List managed images and gallery versions", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				images, err := k.Images(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]imageView, len(images))
				for i, image := range images {
					views[i] = viewImage(image)
				}
				return WriteList(a.env.Stdout, format, []Column[imageView]{
					{"name", func(i imageView) string { return i.Name }},
					{"kind", func(i imageView) string { return i.Kind }},
					{"location", func(i imageView) string { return i.Location }},
					{"os", func(i imageView) string { return fmt.Sprintf("%s gen%d", i.OS, i.Generation) }},
					{"disk", func(i imageView) string { return Bytes(i.DiskBytes) }},
					{"created", func(i imageView) string { return Age(i.CreatedAt, time.Now()) }},
					{"id", func(i imageView) string { return i.ID }},
				}, views)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) imageShow() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one image", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				image, err := k.FindImage(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[imageView]{
					{"id", func(i imageView) string { return i.ID }},
					{"kind", func(i imageView) string { return i.Kind }},
					{"location", func(i imageView) string { return i.Location }},
					{"os", func(i imageView) string { return string(i.OS) }},
					{"generation", func(i imageView) string { return fmt.Sprint(i.Generation) }},
					{"disk", func(i imageView) string { return Bytes(i.DiskBytes) }},
					{"stored", func(i imageView) string { return Bytes(i.StoredBytes) }},
					{"content", func(i imageView) string { return i.Content }},
					{"run", func(i imageView) string { return i.Run }},
					{"created", func(i imageView) string { return i.CreatedAt.Format(time.RFC3339) }},
					{"tags", func(i imageView) string { return tagLines(i.Tags) }},
				}, viewImage(image))
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) imageExport() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "export ID --output FILE", Short: "Write an image to a file: .vhd, .vhdx, .qcow2, .vmdk or .raw", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			if output == "" {
				return arm.Errorf(arm.CodeUsage, "say where to with --output FILE")
			}
			path, err := filepath.Abs(output)
			if err != nil {
				return fmt.Errorf("--output %s: %w", output, err)
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				image, err := k.FindImage(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				return a.showWork(cmd.Context(), func(ctx context.Context, sink event.Sink) error {
					return k.export(ctx, image, path, sink)
				})
			})
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "the file to write; its extension says the format")
	return cmd
}

func (a *app) imageBoot() *cobra.Command {
	var size string
	var member memberFlags
	cmd := &cobra.Command{
		Use:   "boot ID [-- COMMAND...]",
		Short: "Boot an image in a throw-away machine and run a command in it",
		Long: `Boot an image in a fresh machine that is thrown away afterwards. Without a
command its console is shown until Ctrl-C. With one, the command runs as a user
with sudo, and its exit code is goldsmith's. With --vnet, builds on that virtual
network reach the --port of the machine --at an address there while it runs.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			if len(list) > 1 && cmd.ArgsLenAtDash() != 1 {
				return arm.Errorf(arm.CodeUsage, "put -- between the image and the command\nusage: %s", cmd.UseLine())
			}
			of, err := member.parse()
			if err != nil {
				return err
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				image, err := k.FindImage(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				options := build.BootOptions{Member: of, Command: strings.Join(list[1:], " "), Size: size, Stdout: a.env.Stdout, Stderr: a.env.Stderr}
				if options.Command == "" {
					options.Console, _ = a.env.Stdout.(*os.File)
				}
				exit, err := k.boot(cmd.Context(), image, options, event.SinkFunc(func(ev event.Event) {
					if ev.Text != "" && ev.Kind != event.Progress {
						fmt.Fprintln(a.env.Stderr, ev.Text)
					}
				}))
				if err == nil && exit != 0 {
					err = ExitStatus{Code: exit}
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&size, "size", "", "VM size (default that of a build)")
	member.add(cmd)
	return cmd
}

// memberFlags make a booted machine a member of a virtual network.
type memberFlags struct {
	vnet, at, name string
	ports          []uint
}

func (m *memberFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.vnet, "vnet", "", "virtual network that it is in: resource id, or GROUP/NAME")
	cmd.Flags().StringVar(&m.at, "at", "", "its address there")
	cmd.Flags().StringVar(&m.name, "name", "", "name that resolves to the address there")
	cmd.Flags().UintSliceVar(&m.ports, "port", nil, "TCP ports that builds there reach")
}

// parse is the member, nil without any of the flags.
func (m *memberFlags) parse() (*build.Member, error) {
	if m.vnet == "" && m.at == "" && m.name == "" && len(m.ports) == 0 {
		return nil, nil
	}
	if m.vnet == "" || m.at == "" || len(m.ports) == 0 {
		return nil, arm.Errorf(arm.CodeUsage, "a member of a network needs --vnet, --at and --port")
	}
	at, err := netip.ParseAddr(m.at)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "--at is an address in the network, not %q", m.at)
	}
	out := &build.Member{VNet: m.vnet, Name: m.name, At: at}
	for _, p := range m.ports {
		if p == 0 || p > math.MaxUint16 {
			return nil, arm.Errorf(arm.CodeUsage, "--port is a TCP port, not %d", p)
		}
		out.Ports = append(out.Ports, uint16(p))
	}
	return out, nil
}

func (a *app) imageDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID...", Short: "Delete images", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				for _, name := range list {
					image, err := k.FindImage(cmd.Context(), name)
					if err != nil {
						return err
					}
					if err := k.deleteImage(cmd.Context(), image); err != nil {
						return err
					}
					fmt.Fprintf(a.env.Stdout, "deleted %s\n", image.ID)
				}
				return nil
			})
		},
	}
}

// tagLines is a line per tag, in order.
func tagLines(tags map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		lines = append(lines, k+"="+tags[k])
	}
	return strings.Join(lines, "\n")
}

// showWork shows events of work that is not a run.
func (a *app) showWork(ctx context.Context, work func(context.Context, event.Sink) error) error {
	view, err := NewProgress(ProgressAuto, a.env.Stderr, isTerminal(a.env.Stderr), ProgressOptions{OnInterrupt: a.interrupted})
	if err != nil {
		return err
	}
	return a.show(ctx, view, func(sink event.Sink) error {
		return work(ctx, event.SinkFunc(func(e event.Event) {
			e.Time = time.Now()
			sink.Emit(e)
		}))
	})
}
