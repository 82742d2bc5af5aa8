package nsg

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
)

// wireRule is a rule as Azure Resource Manager writes it.
type wireRule struct {
	Name       string `json:"name"`
	Properties struct {
		Priority                   int               `json:"priority"`
		Direction                  string            `json:"direction"`
		Access                     string            `json:"access"`
		Protocol                   string            `json:"protocol"`
		SourceAddressPrefix        string            `json:"sourceAddressPrefix"`
		SourceAddressPrefixes      []string          `json:"sourceAddressPrefixes"`
		DestinationAddressPrefix   string            `json:"destinationAddressPrefix"`
		DestinationAddressPrefixes []string          `json:"destinationAddressPrefixes"`
		SourcePortRange            string            `json:"sourcePortRange"`
		SourcePortRanges           []string          `json:"sourcePortRanges"`
		DestinationPortRange       string            `json:"destinationPortRange"`
		DestinationPortRanges      []string          `json:"destinationPortRanges"`
		SourceGroups               []json.RawMessage `json:"sourceApplicationSecurityGroups"`
		DestinationGroups          []json.RawMessage `json:"destinationApplicationSecurityGroups"`
	} `json:"properties"`
}

// Parse reads the properties of a network security group. extra are rules that
// are resources of their own below the group, as {name, properties}. The error,
// CodeValidationFailed, holds every fault.
func Parse(id string, properties json.RawMessage, extra ...json.RawMessage) (Group, error) {
	var body struct {
		SecurityRules []json.RawMessage `json:"securityRules"`
	}
	if len(properties) > 0 {
		if err := json.Unmarshal(properties, &body); err != nil {
			return Group{}, arm.Errorf(arm.CodeValidationFailed, "the security group's properties do not parse: %w", err).At(id)
		}
	}
	g := Group{ID: id}
	var errs []error
	seen := map[string]bool{}
	for _, raw := range append(body.SecurityRules, extra...) {
		r, err := ParseRule(raw)
		if err == nil && seen[strings.ToLower(r.Name)] {
			continue // listed in the group and as a resource
		}
		seen[strings.ToLower(r.Name)] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		for _, other := range g.Rules {
			if other.Direction == r.Direction && other.Priority == r.Priority {
				errs = append(errs, arm.Errorf(arm.CodeValidationFailed, "the rules %s and %s are both %v with priority %d; give one another priority",
					other.Name, r.Name, r.Direction, r.Priority).At(id))
			}
		}
		g.Rules = append(g.Rules, r)
	}
	return g, errors.Join(errs...)
}

// ParseRule reads one rule as {name, properties}.
func ParseRule(raw json.RawMessage) (Rule, error) {
	var w wireRule
	if err := json.Unmarshal(raw, &w); err != nil {
		return Rule{}, arm.Errorf(arm.CodeValidationFailed, "the security rule does not parse: %w", err)
	}
	p := w.Properties
	r := Rule{Name: w.Name, Priority: p.Priority}
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, arm.Errorf(arm.CodeValidationFailed, "security rule %s: "+format, append([]any{w.Name}, args...)...))
	}
	if w.Name == "" {
		fail("it has no name")
	}
	if r.Priority < MinPriority || r.Priority > MaxPriority {
		fail("priority %d is not between %d and %d", r.Priority, MinPriority, MaxPriority)
	}
	switch strings.ToLower(p.Direction) {
	case "inbound":
		r.Direction = Inbound
	case "outbound":
		r.Direction = Outbound
	default:
		fail("direction %q is neither Inbound nor Outbound", p.Direction)
	}
	switch strings.ToLower(p.Access) {
	case "allow":
		r.Allow = true
	case "deny":
	default:
		fail("access %q is neither Allow nor Deny", p.Access)
	}
	var ok bool
	if r.Protocol, ok = ParseProtocol(p.Protocol); !ok {
		fail("protocol %q is none of *, Tcp, Udp, Icmp, Esp, Ah", p.Protocol)
	}
	if len(p.SourceGroups)+len(p.DestinationGroups) > 0 {
		fail("application security groups are not supported; name prefixes")
	}
	var err error
	if r.Sources, err = addresses("source", p.SourceAddressPrefix, p.SourceAddressPrefixes); err != nil {
		fail("%w", err)
	}
	if r.Destinations, err = addresses("destination", p.DestinationAddressPrefix, p.DestinationAddressPrefixes); err != nil {
		fail("%w", err)
	}
	if r.SourcePorts, err = ports("source", p.SourcePortRange, p.SourcePortRanges); err != nil {
		fail("%w", err)
	}
	if r.DestinationPorts, err = ports("destination", p.DestinationPortRange, p.DestinationPortRanges); err != nil {
		fail("%w", err)
	}
	return r, errors.Join(errs...)
}

// either is the one of a singular and a plural field that is given.
func either(what, one string, many []string) ([]string, error) {
	switch {
	case one != "" && len(many) > 0:
		return nil, fmt.Errorf("%s is given both alone and as a list; keep one", what)
	case one != "":
		return []string{one}, nil
	case len(many) > 0:
		return many, nil
	}
	return nil, fmt.Errorf("no %s is given", what)
}

func addresses(side, one string, many []string) ([]string, error) {
	list, err := either(side+" address prefix", one, many)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if _, err := parseTerm(s); err != nil {
			return nil, fmt.Errorf("%s address prefix: %w", side, err)
		}
	}
	return list, nil
}

// tagName is the form of a service tag, such as Storage.WestEurope.
var tagName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z0-9]+)?$`)

// term is one source or destination of a rule: everything, a prefix, or a tag.
type term struct {
	all    bool
	prefix netip.Prefix
	tag    string
}

func parseTerm(s string) (term, error) {
	if s == "*" || strings.EqualFold(s, "any") {
		return term{all: true}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return term{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return term{prefix: p.Masked()}, nil
	}
	if tagName.MatchString(s) {
		return term{tag: s}, nil
	}
	return term{}, fmt.Errorf("%q is no address, prefix or service tag", s)
}

func ports(side, one string, many []string) ([]PortRange, error) {
	list, err := either(side+" port range", one, many)
	if err != nil {
		return nil, err
	}
	var out []PortRange
	for _, s := range list {
		r, err := ParsePorts(s)
		if err != nil {
			return nil, fmt.Errorf("%s port range: %w", side, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// ParsePorts reads "*", one port, or two with a hyphen between.
func ParsePorts(s string) (PortRange, error) {
	if s == "*" {
		return AllPorts, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, aerr := strconv.ParseUint(first, 10, 16)
	b, berr := strconv.ParseUint(last, 10, 16)
	if aerr != nil || berr != nil || a > b {
		return PortRange{}, fmt.Errorf("%q is neither *, a port, nor a range such as 1000-2000", s)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}
