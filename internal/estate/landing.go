package estate

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Landing is where the application goes in AWS: the accounts, the regions, and
// what stands in them. Its stacks follow from it.
type Landing struct {
	// Application names the stacks and their resources; default the estate's name.
	Application string   `yaml:"application,omitempty"`
	Accounts    Accounts `yaml:"accounts"`
	// Role is assumed in each account; without it all accounts must be the caller's own.
	Role         Role          `yaml:"role,omitempty"`
	Regions      Regions       `yaml:"regions"`
	Environments []Environment `yaml:"environments"`
	Services     []Service     `yaml:"services,omitempty"`
	// Domain is the public name that users know; empty means no names and no certificates.
	Domain string            `yaml:"domain,omitempty"`
	Tags   map[string]string `yaml:"tags,omitempty"`
	// Parameters are those of templates, by the template's name, in every environment.
	Parameters Parameters `yaml:"parameters,omitempty"`
	// Without are templates that are not deployed.
	Without []string `yaml:"without,omitempty"`

	file   string
	places map[string]position
}

// Accounts are the numbers of the accounts, each of 12 digits. One that is empty
// is made by the template organization.
type Accounts struct {
	Management    string `yaml:"management"`
	Security      string `yaml:"security,omitempty"`
	NonProduction string `yaml:"nonproduction,omitempty"`
	Production    string `yaml:"production,omitempty"`
}

// Account is an account, as the estate names it.
type Account string

// The accounts.
const (
	Management    Account = "management"
	Security      Account = "security"
	NonProduction Account = "nonproduction"
	Production    Account = "production"
)

// Number is the account's number; empty where the estate does not know it.
func (a Accounts) Number(of Account) string {
	switch of {
	case Management:
		return a.Management
	case Security:
		return a.Security
	case NonProduction:
		return a.NonProduction
	case Production:
		return a.Production
	}
	return ""
}

// Role is how an account is entered.
type Role struct {
	Name       string `yaml:"name,omitempty"`
	ExternalID Secret `yaml:"external_id,omitempty"`
}

// Regions are the names of AWS regions.
type Regions struct {
	Main string `yaml:"main"`
	DR   string `yaml:"dr"`
	// Home is where what an organization has once is kept; default Main.
	Home string `yaml:"home,omitempty"`
}

// The regions, as an environment names its own.
const (
	RegionMain = "main"
	RegionDR   = "dr"
)

// The environments.
const (
	EnvironmentDev  = "dev"
	EnvironmentSIT  = "sit"
	EnvironmentMain = "main"
	EnvironmentDR   = "dr"
)

// Environment is one copy of the application.
type Environment struct {
	Name    string `yaml:"name"`
	Account string `yaml:"account,omitempty"` // nonproduction or production; default by the name
	Region  string `yaml:"region,omitempty"`  // main or dr; default dr for dr, else main
	Network string `yaml:"network"`           // a range in CIDR notation
	// Parameters are the environment's own; they go before the landing zone's.
	Parameters Parameters `yaml:"parameters,omitempty"`
}

// Parameters are texts by the name of a template and of its parameter.
type Parameters map[string]map[string]string

// Service is a part of the application that has a stack of its own in every environment.
type Service struct {
	Name string `yaml:"name"`
	// Template is service (in the cluster), frontend (on Fargate) or website (on EC2); default service.
	Template   string            `yaml:"template,omitempty"`
	Parameters map[string]string `yaml:"parameters,omitempty"`
}

const (
	// DefaultTemplate is the template of a service that names none.
	DefaultTemplate = "service"
	// maxApplication bounds the application's name and a service's, in bytes: names of load
	// balancers and target groups hold both and the environment's, and have 32.
	maxApplication = 16
	// maxServices bounds the services: each is a stack in each environment.
	maxServices = 200
	// widestNetwork and narrowestNetwork bound a VPC's range, as AWS does.
	widestNetwork, narrowestNetwork = 16, 28
	// maxTags leaves room for those of dhow among the 50 that a resource can have.
	maxTags = 40
	// maxTagKey and maxTagValue are AWS's bounds, in characters.
	maxTagKey, maxTagValue = 128, 256
)

var (
	environments      = []string{EnvironmentDev, EnvironmentSIT, EnvironmentMain, EnvironmentDR}
	workloadAccounts  = []string{string(NonProduction), string(Production)}
	environmentPlaces = []string{RegionMain, RegionDR}
	serviceTemplates  = []string{DefaultTemplate, "frontend", "website"}
)

// The forms of the landing zone's values, as JSON Schema's patterns.
const (
	accountForm     = `^[0-9]{12}$`
	roleForm        = `^[A-Za-z0-9+=,.@_/-]{1,64}$`
	regionForm      = `^[a-z]{2,}(-[a-z]+)+-[0-9]+$`
	applicationForm = `^[a-z][a-z0-9-]*$`
	networkForm     = `^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$`
	domainForm      = `^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$`
)

var (
	accountPattern     = regexp.MustCompile(accountForm)
	rolePattern        = regexp.MustCompile(roleForm)
	regionPattern      = regexp.MustCompile(regionForm)
	applicationPattern = regexp.MustCompile(applicationForm)
	domainPattern      = regexp.MustCompile(domainForm)
	parameterPattern   = regexp.MustCompile(`^[A-Za-z0-9]{1,255}$`)
)

// Wrong is the error that a key of the landing zone can not be used, for a reason
// that is known only elsewhere. The path begins below landing.
func (l *Landing) Wrong(path, format string, args ...any) *Invalid {
	r := &reading{file: l.file, known: map[Problem]bool{}, at: l.places, broken: map[string]bool{}}
	r.wrong("landing."+path, format, args...)
	return &Invalid{File: r.file, Problems: r.problems}
}

// Environment is the environment of a name; nil where there is none.
func (l *Landing) Environment(name string) *Environment {
	for i := range l.Environments {
		if l.Environments[i].Name == name {
			return &l.Environments[i]
		}
	}
	return nil
}

// Region is the name of an environment's region.
func (l *Landing) Region(e *Environment) string {
	if e.Region == RegionDR {
		return l.Regions.DR
	}
	return l.Regions.Main
}

func (l *Landing) fill(r *reading, name string) {
	l.file, l.places = r.file, r.at
	orDefault(r, "landing.application", &l.Application, strings.ReplaceAll(name, "_", "-"))
	orDefault(r, "landing.regions.home", &l.Regions.Home, l.Regions.Main)
	l.Role.ExternalID.File = r.absolute(l.Role.ExternalID.File)
	for i := range l.Environments {
		e, path := &l.Environments[i], fmt.Sprintf("landing.environments[%d]", i)
		account, region := string(NonProduction), RegionMain
		if e.Name == EnvironmentMain || e.Name == EnvironmentDR {
			account = string(Production)
		}
		if e.Name == EnvironmentDR {
			region = RegionDR
		}
		orDefault(r, path+".account", &e.Account, account)
		orDefault(r, path+".region", &e.Region, region)
	}
	for i := range l.Services {
		orDefault(r, fmt.Sprintf("landing.services[%d].template", i), &l.Services[i].Template, DefaultTemplate)
	}
}

func (l *Landing) check(r *reading) {
	r.short("landing.application", l.Application, "a short name, for example bank")
	l.checkAccounts(r)
	l.checkRole(r)
	l.checkRegions(r)
	l.checkEnvironments(r)
	l.checkServices(r)
	if at := "landing.domain"; l.Domain != "" && r.sound(at) && !domainPattern.MatchString(l.Domain) {
		r.wrong(at, "%q is no domain: want a name such as bank.example, in small letters, without a scheme or a closing dot", l.Domain)
	}
	l.checkTags(r)
	checkParameters(r, "landing.parameters", l.Parameters)
	for i, name := range l.Without {
		if at := fmt.Sprintf("landing.without[%d]", i); r.sound(at) && slices.Index(l.Without, name) < i {
			r.wrong(at, "%q stands in the list already: remove it", name)
		}
	}
}

// short checks a name that becomes a part of names of AWS.
func (r *reading) short(path, name, what string) {
	switch {
	case !r.required(path, name, what):
	case !applicationPattern.MatchString(name):
		r.wrong(path, "%q can not be part of the names of stacks and load balancers: want small letters, digits and -, beginning with a letter", name)
	case len(name) > maxApplication:
		r.wrong(path, "is %d letters long: want at most %d, for it becomes part of names that AWS bounds", len(name), maxApplication)
	}
}

func (l *Landing) checkAccounts(r *reading) {
	const path = "landing.accounts"
	if !r.sound(path) {
		return
	}
	if !r.given(path) {
		r.wrong(path, "is missing: add accounts, with the number of the management account at least")
		return
	}
	r.required(path+".management", l.Accounts.Management, "the number of the organization's management account, 12 digits in quotes")
	seen := map[string]string{}
	for _, a := range []Account{Management, Security, NonProduction, Production} {
		at, number := path+"."+string(a), l.Accounts.Number(a)
		if number == "" || !r.sound(at) {
			continue
		}
		if !accountPattern.MatchString(number) {
			r.wrong(at, "%q is no account's number: want 12 digits, in quotes", number)
			continue
		}
		// One account for all is a sandbox; two of them are a slip.
		if first, twice := seen[number]; twice && !l.Accounts.single() {
			r.wrong(at, "is the number of %s too (line %d): give each account its own, or all of them the same", first, r.at[first].line)
			continue
		}
		seen[number] = at
	}
}

// single says that all accounts are one.
func (a Accounts) single() bool {
	return a == Accounts{a.Management, a.Management, a.Management, a.Management}
}

func (l *Landing) checkRole(r *reading) {
	const path = "landing.role"
	if !r.given(path) || !r.sound(path) {
		return
	}
	if r.required(path+".name", l.Role.Name, "the name of the role that dhow assumes in each account") && !rolePattern.MatchString(l.Role.Name) {
		r.wrong(path+".name", "%q is no role's name: want its name alone, not its ARN, the same in each account", l.Role.Name)
	}
	l.Role.ExternalID.check(r, path+".external_id")
}

func (l *Landing) checkRegions(r *reading) {
	const path = "landing.regions"
	if !r.sound(path) {
		return
	}
	if !r.given(path) {
		r.wrong(path, "is missing: add regions, with main and dr; `dhow regions --rank` says which fit")
		return
	}
	for _, k := range []struct{ key, name string }{{"main", l.Regions.Main}, {"dr", l.Regions.DR}, {"home", l.Regions.Home}} {
		at := path + "." + k.key
		if k.key == "home" && !r.given(at) || !r.required(at, k.name, "the name of an AWS region") {
			continue
		}
		if !regionPattern.MatchString(k.name) {
			r.wrong(at, "%q is no region's name: want one as `dhow regions` lists them", k.name)
		}
	}
	if at := path + ".dr"; r.sound(at) && l.Regions.DR != "" && l.Regions.DR == l.Regions.Main {
		r.wrong(at, "is the main region: name another, for what strikes one region strikes both then")
	}
}

func (l *Landing) checkEnvironments(r *reading) {
	const list = "landing.environments"
	if len(l.Environments) == 0 && r.sound(list) {
		r.wrong(list, "there is no environment: add at least one, with its name and network")
		return
	}
	names := map[string]string{}
	type taken struct {
		network netip.Prefix
		path    string
	}
	var networks []taken
	for i := range l.Environments {
		e, path := &l.Environments[i], fmt.Sprintf("%s[%d]", list, i)
		if r.required(path+".name", e.Name, "one of "+alternatives(environments)) {
			r.choice(path+".name", e.Name, environments)
			r.unique(names, path+".name", e.Name)
		}
		r.choice(path+".account", e.Account, workloadAccounts)
		r.choice(path+".region", e.Region, environmentPlaces)
		if at := path + ".region"; r.sound(at) && (e.Name == EnvironmentDR) != (e.Region == RegionDR) {
			r.wrong(at, "the environment %s stands in the region %q: dr stands in dr, and the others in main", e.Name, e.Region)
		}
		checkParameters(r, path+".parameters", e.Parameters)
		at := path + ".network"
		if !r.required(at, e.Network, "a range of addresses that no other environment and not the source has, for example 10.16.0.0/16") {
			continue
		}
		network, fault := networkOf(e.Network)
		if fault != "" {
			r.wrong(at, "%s", fault)
			continue
		}
		if at := slices.IndexFunc(networks, func(t taken) bool { return t.network.Overlaps(network) }); at >= 0 {
			other := networks[at]
			r.wrong(path+".network", "%s overlaps %s of %s (line %d): give each environment a range of its own, for they are joined by routes", network, other.network, parent(other.path), r.at[other.path].line)
			continue
		}
		networks = append(networks, taken{network, at})
	}
	if e := l.Environment(EnvironmentDR); e != nil && l.Environment(EnvironmentMain) == nil && r.sound(list) {
		r.wrong(list, "there is a dr and no main, which it would stand in for: add main, or remove dr")
	}
}

// networkOf reads a VPC's range; the text says why it is none.
func networkOf(text string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return p, fmt.Sprintf("%q is no range of IPv4 addresses: want CIDR notation, for example 10.16.0.0/16", text)
	case p != p.Masked():
		return p, fmt.Sprintf("%s does not begin at its first address: did you mean %s?", text, p.Masked())
	case p.Bits() < widestNetwork || p.Bits() > narrowestNetwork:
		return p, fmt.Sprintf("%s is no size of a VPC: want /%d to /%d", text, widestNetwork, narrowestNetwork)
	case !p.Addr().IsPrivate() && !sharedRange.Contains(p.Addr()):
		return p, fmt.Sprintf("%s are public addresses of somebody: want a range of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10", text)
	}
	return p, ""
}

// sharedRange is RFC 6598's, which AWS lets a VPC have too.
var sharedRange = netip.MustParsePrefix("100.64.0.0/10")

func (l *Landing) checkServices(r *reading) {
	const list = "landing.services"
	if n := len(l.Services); n > maxServices {
		r.wrong(list, "%d services are more than %d: each is a stack in each environment, so split them over several estates", n, maxServices)
		return
	}
	names := map[string]string{}
	for i := range l.Services {
		s, path := &l.Services[i], fmt.Sprintf("%s[%d]", list, i)
		r.short(path+".name", s.Name, "how this service is called")
		r.unique(names, path+".name", s.Name)
		r.choice(path+".template", s.Template, serviceTemplates)
		checkNames(r, path+".parameters", s.Parameters)
	}
}

func (l *Landing) checkTags(r *reading) {
	const path = "landing.tags"
	if !r.sound(path) {
		return
	}
	if n := len(l.Tags); n > maxTags {
		r.wrong(path, "%d tags are more than %d: a resource has 50 at most, with those of dhow and AWS", n, maxTags)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(l.Tags)) {
		at := join(path, k)
		switch {
		case !r.sound(at):
		case strings.HasPrefix(strings.ToLower(k), "aws:") || strings.HasPrefix(k, "dhow:"):
			r.wrong(at, "begins with %s:, which is taken: rename it", strings.SplitN(k, ":", 2)[0])
		case k == "Application" || k == "Environment":
			r.wrong(at, "is a tag that dhow sets: remove it")
		case len(k) > maxTagKey || len(l.Tags[k]) > maxTagValue:
			r.wrong(at, "is too long: want at most %d characters for a key and %d for its value", maxTagKey, maxTagValue)
		}
	}
}

func checkParameters(r *reading, path string, p Parameters) {
	for _, t := range slices.Sorted(maps.Keys(p)) {
		checkNames(r, join(path, t), p[t])
	}
}

func checkNames(r *reading, path string, p map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if at := join(path, name); r.sound(at) && !parameterPattern.MatchString(name) {
			r.wrong(at, "%q is no parameter's name: want letters and digits", name)
		}
	}
}
