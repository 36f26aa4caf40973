package landing

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/estate"
)

// wire gives every parameter of every stack its value, and notes which stacks each
// needs. It returns all that can not be given.
func (g *Graph) wire() []error {
	var wrong []error
	givers := map[string][]*Stack{}
	for _, s := range g.Stacks {
		for _, output := range s.template.Outputs {
			givers[output] = append(givers[output], s)
		}
	}
	for _, s := range g.Stacks {
		wrong = append(wrong, g.unknownParameters(s)...)
		for _, p := range s.template.Parameters {
			in, err := g.input(s, &p, givers)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			in.Parameter, in.Hidden = p.Name, p.NoEcho
			s.Inputs = append(s.Inputs, in)
			if in.Stack != "" {
				s.After = append(s.After, in.Stack)
			}
			if err := allowed(s, &p, in); err != nil {
				wrong = append(wrong, err)
			}
		}
		if s.Number == "" && s.ID != organizationID { // the account is made first
			if g.byID[organizationID] == nil {
				wrong = append(wrong, g.landing.Wrong("accounts."+string(s.Account), "is missing, and the template organization, which would make the account, is left out: add its number"))
				continue
			}
			s.After = append(s.After, organizationID)
		}
		slices.Sort(s.After)
		s.After = slices.Compact(s.After)
	}
	return distinct(wrong)
}

// distinct drops errors that say the same.
func distinct(all []error) []error {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(err error) bool {
		again := seen[err.Error()]
		seen[err.Error()] = true
		return again
	})
}

// own are the estate's parameters of a stack, the most particular first, with the
// path of each in the estate.
func (g *Graph) own(s *Stack) []struct {
	path   string
	values map[string]string
} {
	type layer = struct {
		path   string
		values map[string]string
	}
	var layers []layer
	for i, e := range g.landing.Environments {
		if e.Name == s.Environment {
			layers = append(layers, layer{fmt.Sprintf("environments[%d].parameters.%s", i, s.Template), e.Parameters[s.Template]})
		}
	}
	for i, service := range g.landing.Services {
		if s.Service != "" && service.Name == s.Service {
			layers = append(layers, layer{fmt.Sprintf("services[%d].parameters", i), service.Parameters})
		}
	}
	return append(layers, layer{"parameters." + s.Template, g.landing.Parameters[s.Template]})
}

// unknownParameters are errors about parameters of the estate that the template lacks.
func (g *Graph) unknownParameters(s *Stack) []error {
	var wrong []error
	for _, layer := range g.own(s) {
		for _, name := range slices.Sorted(maps.Keys(layer.values)) {
			if s.template.parameter(name) != nil {
				continue
			}
			known := make([]string, len(s.template.Parameters))
			for i, p := range s.template.Parameters {
				known[i] = p.Name
			}
			wrong = append(wrong, g.landing.Wrong(layer.path+"."+name, "the template %s has no parameter %s; it has %s", s.Template, name, strings.Join(known, ", ")))
		}
	}
	return wrong
}

// input finds a parameter's value: the estate's own word first, then what follows from
// the place, then another stack's output, then the template's default.
func (g *Graph) input(s *Stack, p *Parameter, givers map[string][]*Stack) (Input, error) {
	for _, layer := range g.own(s) {
		if v, ok := layer.values[p.Name]; ok {
			return Input{Kind: FromEstate, Value: v}, nil
		}
	}
	if v, ok := g.given(s, p); ok {
		return Input{Kind: FromPlace, Value: v}, nil
	}
	from, output, err := g.giver(s, p, givers)
	if err != nil {
		return Input{}, err
	}
	if from != nil {
		return Input{Kind: FromOutput, Stack: from.ID, Output: output}, nil
	}
	if v, ok := g.givenLast(s, p); ok {
		return Input{Kind: FromPlace, Value: v}, nil
	}
	if p.Default != nil {
		return Input{Kind: FromDefault, Value: *p.Default}, nil
	}
	// What dr needs and has not, it takes of the environment that it stands in for.
	if s.Environment == estate.EnvironmentDR {
		from, err := nearest(s, p.Name, givers[p.Name], func(from *Stack) int { return g.inEnvironment(s, from, estate.EnvironmentMain) })
		if err != nil {
			return Input{}, err
		}
		if from != nil {
			return Input{Kind: FromOutput, Stack: from.ID, Output: p.Name}, nil
		}
	}
	return Input{}, fmt.Errorf("%s lacks a value for its parameter %s (%s): no stack that it may take it from has such an output; set it in the estate, under landing.parameters.%s", s.ID, p.Name, cmp.Or(p.Description, p.Type), s.Template)
}

// domainParameter is the parameter that takes the estate's domain.
const domainParameter = "DomainName"

// given are values that follow from where a stack stands.
func (g *Graph) given(s *Stack, p *Parameter) (string, bool) {
	l := g.landing
	v := ""
	switch p.Name {
	case "Application":
		return g.Application, true
	case "Environment":
		return s.Environment, true
	case "ServiceName", "Service":
		v = s.Service
	case "HomeRegion":
		return l.Regions.Home, true
	case "MainRegion":
		return l.Regions.Main, true
	case "DrRegion", "DRRegion":
		return l.Regions.DR, true
	case "Regions", "AllowedRegions":
		return strings.Join(g.regions(), ","), true
	case "DeploymentRoleName", "AccountRoleName":
		v = l.Role.Name
	case "ManagementAccountId":
		v = l.Accounts.Management
	case "SecurityAccountId":
		v = l.Accounts.Security
	case "NonProductionAccountId":
		v = l.Accounts.NonProduction
	case "ProductionAccountId":
		v = l.Accounts.Production
	case "MoreRules", "RareRules":
		return strconv.FormatBool(len(g.lacksRules(s, strings.TrimSuffix(p.Name, "Rules")+"Pack")) == 0), true
	case domainParameter:
		v = l.Domain
	}
	return v, v != ""
}

// givenLast are values that follow from the place too, but only where no stack tells them.
func (g *Graph) givenLast(s *Stack, p *Parameter) (string, bool) {
	e := g.landing.Environment(s.Environment)
	if e == nil {
		return "", false
	}
	switch p.Name {
	case "VpcCidr":
		return e.Network, true
	case "VpcPrefixLength":
		network, err := netip.ParsePrefix(e.Network)
		return strconv.Itoa(network.Bits()), err == nil
	}
	return "", false
}

// regions are all of the estate's, each once: main, dr, home.
func (g *Graph) regions() []string {
	r := g.landing.Regions
	var all []string
	for _, name := range []string{r.Main, r.DR, r.Home} {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// otherSide are the beginnings of parameters whose value is an output of another
// environment: in dr, MainVpcId is the VpcId of main, and in main DrVpcId that of dr. A
// shared stack may so ask for any environment's.
var otherSide = []struct{ prefix, environment string }{{"Main", estate.EnvironmentMain}, {"Dr", estate.EnvironmentDR}, {"Dev", estate.EnvironmentDev}, {"Sit", estate.EnvironmentSIT}}

// looksAcross says whether a stack of an environment may take outputs of another's.
func looksAcross(environment, other string) bool {
	switch environment {
	case Shared:
		return true
	case estate.EnvironmentDR:
		return other == estate.EnvironmentMain
	case estate.EnvironmentMain:
		return other == estate.EnvironmentDR
	}
	return false
}

// giver finds the stack whose output is a parameter's value; nil where there is none.
func (g *Graph) giver(s *Stack, p *Parameter, givers map[string][]*Stack) (*Stack, string, error) {
	found, err := nearest(s, p.Name, givers[p.Name], func(from *Stack) int { return g.distance(s, from) })
	if found != nil || err != nil {
		return found, p.Name, err
	}
	for _, side := range otherSide {
		output, ok := strings.CutPrefix(p.Name, side.prefix)
		if !ok || !looksAcross(s.Environment, side.environment) {
			continue
		}
		found, err := nearest(s, p.Name, givers[output], func(from *Stack) int { return g.inEnvironment(s, from, side.environment) })
		if found != nil || err != nil {
			return found, output, err
		}
	}
	return nil, "", nil
}

// inEnvironment is a distance that all stacks of one environment have.
func (g *Graph) inEnvironment(s, from *Stack, environment string) int {
	if from.Environment == environment && (from.Service == "" || from.Service == s.Service) {
		return 0
	}
	return farAway
}

// farAway is a distance over which nothing is given.
const farAway = 100

// distance says how near a stack is to one that needs something: its own environment
// first, then what is shared, the nearest account and region first.
func (g *Graph) distance(s, from *Stack) int {
	switch {
	case from.Template == s.Template || from.Service != "" && from.Service != s.Service:
		return farAway
	case from.Environment == s.Environment && s.Environment != Shared:
		return 0
	case from.Environment == Shared && from.Account == s.Account && from.Region == s.Region:
		return 1
	case from.Environment == Shared && from.Account == s.Account:
		return 2
	case from.Environment == Shared && from.Region == s.Region:
		return 3
	case from.Environment == Shared:
		return 4
	}
	return farAway
}

// nearest is the stack at the least distance; two are an error, for one would be a guess.
func nearest(s *Stack, parameter string, givers []*Stack, distance func(*Stack) int) (*Stack, error) {
	best, at := []*Stack(nil), farAway
	for _, from := range givers {
		switch d := distance(from); {
		case from == s || d >= farAway || d > at:
		case d < at:
			best, at = []*Stack{from}, d
		default:
			best = append(best, from)
		}
	}
	if len(best) > 1 {
		ids := make([]string, len(best))
		for i, b := range best {
			ids[i] = b.ID
		}
		slices.Sort(ids)
		return nil, fmt.Errorf("%s could take its parameter %s from any of %s: set it in the estate, under landing.parameters.%s", s.ID, parameter, strings.Join(ids, ", "), s.Template)
	}
	if len(best) == 0 {
		return nil, nil
	}
	return best[0], nil
}

// allowed checks a value against the values that its parameter takes.
func allowed(s *Stack, p *Parameter, in Input) error {
	if in.Kind == FromOutput || in.Kind == FromDefault || len(p.Allowed) == 0 || slices.Contains(p.Allowed, in.Value) {
		return nil
	}
	if p.NoEcho {
		return fmt.Errorf("%s: its parameter %s, from the %s, is none of the values that it takes", s.ID, p.Name, in.Kind)
	}
	return fmt.Errorf("%s: its parameter %s is %q, from the %s: want one of %s", s.ID, p.Name, in.Value, in.Kind, strings.Join(p.Allowed, ", "))
}

// values are what is known of a stack's parameters before anything is deployed, with
// what every template may refer to.
func (s *Stack) values() map[string]string {
	v := map[string]string{"AWS::Region": s.Region, "AWS::StackName": s.Name, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}
	if s.Number != "" {
		v["AWS::AccountId"] = s.Number
	}
	for _, in := range s.Inputs {
		if in.Kind != FromOutput {
			v[in.Parameter] = in.Value
		}
	}
	return v
}

// resources are those that a stack has, as far as its conditions are known.
func (s *Stack) resources() []Resource {
	e := &evaluation{template: s.template, values: s.values()}
	var there []Resource
	for _, r := range s.template.Resources {
		if e.has(r) != no {
			there = append(there, r)
		}
	}
	return there
}
