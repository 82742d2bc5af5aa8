package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/nsg"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

func (a *app) networkCommand() *cobra.Command {
	return group("network", "See, check and furnish virtual networks",
		a.networkPut(), a.networkList(), a.networkShow(), a.networkCheck(), a.networkExpose(), a.networkEgress())
}

// vnetID is the id of the network that a flag names: an id, or GROUP/NAME.
func vnetID(k interface{ Subscription() string }, text string) (string, error) {
	if strings.HasPrefix(text, "/") {
		return text, nil
	}
	group, name, ok := strings.Cut(text, "/")
	if !ok || strings.Contains(name, "/") {
		return "", arm.Errorf(arm.CodeUsage, "--vnet is a resource id or GROUP/NAME, not %q", text)
	}
	return arm.ResourceID(k.Subscription(), group, vnet.TypeNetwork, name), nil
}

// vnetFlag adds --vnet.
func vnetFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "vnet", "", "virtual network: resource id, or GROUP/NAME")
	_ = cmd.MarkFlagRequired("vnet") // the flag exists
}

func (a *app) networkPut() *cobra.Command {
	return &cobra.Command{
		Use: "put FILE", Short: "Store network resources: a JSON array of {id, type, location, properties}", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			text, err := os.ReadFile(list[0])
			if err != nil {
				return arm.Errorf(arm.CodeUsage, "read the resources: %w", err)
			}
			var all []struct {
				ID, Type, Location string
				Tags               map[string]string
				Properties         json.RawMessage
			}
			if err := json.Unmarshal(text, &all); err != nil {
				return arm.Errorf(arm.CodeUsage, "%s is not a JSON array of resources: %w", list[0], err)
			}
			return a.withKeeper(ctx, func(k keeper) error {
				// Encoders write the placeholder's brackets as they are or escaped.
				fill := strings.NewReplacer("<subscriptionID>", k.Subscription(), `\u003csubscriptionID\u003e`, k.Subscription())
				for _, r := range all {
					id := fill.Replace(r.ID)
					props := json.RawMessage(fill.Replace(string(r.Properties)))
					stored, err := k.PutNetworkResource(ctx, resource.Record{ID: id, Type: r.Type, Location: r.Location, Tags: r.Tags, Properties: props})
					if err != nil {
						return err
					}
					fmt.Fprintln(a.env.Stdout, stored.ID)
				}
				return nil
			})
		},
	}
}

func (a *app) networkList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List virtual networks with what their subnets have left", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				all, err := k.VirtualNetworks(cmd.Context())
				if err != nil {
					return err
				}
				return WriteList(a.env.Stdout, format, []Column[build.VirtualNetwork]{
					{"name", func(v build.VirtualNetwork) string { return v.Name }},
					{"location", func(v build.VirtualNetwork) string { return v.Location }},
					{"prefixes", func(v build.VirtualNetwork) string { return fmt.Sprint(v.Prefixes) }},
					{"subnets", func(v build.VirtualNetwork) string {
						var subnets []string
						for _, s := range v.Subnets {
							subnets = append(subnets, fmt.Sprintf("%s %v (%d free)", s.Name, s.Prefix, s.Free))
						}
						return strings.Join(subnets, ", ")
					}},
				}, all)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) networkShow() *cobra.Command {
	var svg string
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show RUN", Short: "Draw how a run is or was connected, with what it reached", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withHistory(cmd.Context(), func(h history) error {
				r, err := h.find(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				v, found, err := topology.Collect(h.events(cmd.Context(), r, false))
				if err != nil {
					return err
				}
				if !found {
					return arm.Errorf(arm.CodeNotFound, "run %s never got as far as its network", r.ID)
				}
				if svg != "" {
					if err := os.WriteFile(svg, []byte(v.SVG()), 0o644); err != nil {
						return arm.Errorf(arm.CodeUsage, "write the picture: %w", err)
					}
				}
				if format == FormatJSON {
					return writeJSON(a.env.Stdout, v)
				}
				fmt.Fprintln(a.env.Stdout, strings.Join(terminalLines(v.Text()), "\n"))
				return nil
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	cmd.Flags().StringVar(&svg, "svg", "", "write the picture to this file")
	return cmd
}

func (a *app) networkCheck() *cobra.Command {
	var id, from, to, protocol string
	var port uint16
	cmd := &cobra.Command{
		Use: "check", Short: "Say whether the security rules let a connection pass, and by which rule", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			proto, ok := nsg.ParseProtocol(protocol)
			if !ok || proto == nsg.AnyProtocol {
				return arm.Errorf(arm.CodeUsage, "--protocol is tcp, udp or icmp, not %q", protocol)
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				id, err := vnetID(k, id)
				if err != nil {
					return err
				}
				return a.check(cmd.Context(), k, build.Reach{Network: id, From: from, To: to, Protocol: proto, Port: port})
			})
		},
	}
	vnetFlag(cmd, &id)
	cmd.Flags().StringVar(&from, "from", "", "address, service tag, or name of something in the network")
	cmd.Flags().StringVar(&to, "to", "", "address, service tag, or name of something in the network")
	cmd.Flags().StringVar(&protocol, "protocol", "tcp", "tcp, udp or icmp")
	cmd.Flags().Uint16Var(&port, "port", 0, "destination port")
	_ = cmd.MarkFlagRequired("from") // the flags exist
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

// errDenied is the answer no.
var errDenied = errors.New("denied")

func (a *app) check(ctx context.Context, k keeper, r build.Reach) error {
	answer, err := k.Reach(ctx, r)
	if err != nil {
		return err
	}
	for _, m := range answer.Rules {
		verb := "allowed"
		if !m.Allow {
			verb = "denied"
		}
		if m.Rule == "" {
			fmt.Fprintf(a.env.Stdout, "%s: %s, no security group\n", m.Where, verb)
			continue
		}
		fmt.Fprintf(a.env.Stdout, "%s: %s by rule %s (priority %d) of %s\n", m.Where, verb, m.Rule, m.Priority, lastSegment(m.Group))
	}
	protocol := strings.ToLower(r.Protocol.String())
	if !answer.Allowed {
		return arm.Errorf(arm.CodeNotAllowed, "%w: %s from %v to %v port %d", errDenied, protocol, answer.From, answer.To, r.Port)
	}
	fmt.Fprintf(a.env.Stdout, "allowed: %s from %v to %v port %d\n", protocol, answer.From, answer.To, r.Port)
	return nil
}

func (a *app) networkExpose() *cobra.Command {
	var id, at, target, name string
	var remove bool
	cmd := &cobra.Command{
		Use: "expose", Short: "Publish a service of the host at an address of a virtual network", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := netip.ParseAddrPort(at)
			if err != nil {
				return arm.Errorf(arm.CodeUsage, "--at is ADDRESS:PORT in the network, not %q", at)
			}
			if !remove && !strings.Contains(target, ":") {
				return arm.Errorf(arm.CodeUsage, "--target is HOST:PORT as this host reaches it, not %q", target)
			}
			return a.withEngine(cmd.Context(), func(e *build.Engine) error {
				id, err := vnetID(e, id)
				if err != nil {
					return err
				}
				return e.ChangeNetworkSettings(cmd.Context(), id, func(s *build.NetworkSettings) error {
					s.Exposed = slices.DeleteFunc(s.Exposed, func(x build.Exposed) bool { return x.At == addr })
					if !remove {
						s.Exposed = append(s.Exposed, build.Exposed{Name: name, At: addr, Target: target})
					}
					return nil
				})
			})
		},
	}
	vnetFlag(cmd, &id)
	cmd.Flags().StringVar(&at, "at", "", "ADDRESS:PORT in the network")
	cmd.Flags().StringVar(&target, "target", "", "HOST:PORT as this host reaches it")
	cmd.Flags().StringVar(&name, "name", "", "name that resolves to the address in the network")
	cmd.Flags().BoolVar(&remove, "remove", false, "end it")
	_ = cmd.MarkFlagRequired("at") // the flag exists
	return cmd
}

func (a *app) networkEgress() *cobra.Command {
	var id string
	var siloed bool
	var allow []string
	cmd := &cobra.Command{
		Use: "egress", Short: "Say what builds on a virtual network reach outside of it", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			prefixes, err := build.AllowEgress(allow)
			if err != nil {
				return err
			}
			return a.withEngine(cmd.Context(), func(e *build.Engine) error {
				id, err := vnetID(e, id)
				if err != nil {
					return err
				}
				return e.ChangeNetworkSettings(cmd.Context(), id, func(s *build.NetworkSettings) error {
					s.Siloed, s.Allow = siloed, prefixes
					return nil
				})
			})
		},
	}
	vnetFlag(cmd, &id)
	cmd.Flags().BoolVar(&siloed, "siloed", false, "nothing but what --allow names")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "address ranges that are reached although the default says no")
	return cmd
}
