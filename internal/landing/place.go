package landing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/estate"
)

// Scope is where a template is deployed, and so how often.
type Scope string

// The scopes. A template of one's own says its scope under Metadata.Dhow.Scope.
const (
	ScopeManagement  Scope = "management"  // once, in the management account's home region
	ScopeSecurity    Scope = "security"    // once, in the security account's home region
	ScopeShared      Scope = "shared"      // once, in the production account's main region
	ScopeAccount     Scope = "account"     // in each account's home region
	ScopeRegion      Scope = "region"      // in each account and each of its regions
	ScopeWorkload    Scope = "workload"    // in each account and region where an environment stands
	ScopeEnvironment Scope = "environment" // in each environment
	ScopeActive      Scope = "active"      // in each environment but dr
	ScopeDR          Scope = "dr"          // in dr alone
	ScopeService     Scope = "service"     // for each of its services in each environment
)

var scopes = []Scope{ScopeManagement, ScopeSecurity, ScopeShared, ScopeAccount, ScopeRegion, ScopeWorkload, ScopeEnvironment, ScopeActive, ScopeDR, ScopeService}

// placed is how dhow's own templates are deployed. An engine is that of the databases
// without which a template is left out, in an estate that names databases.
var placed = map[string]struct {
	scope  Scope
	engine estate.Engine
}{
	"organization": {scope: ScopeManagement},
	"security":     {scope: ScopeSecurity},
	"baseline":     {scope: ScopeRegion},
	"budget":       {scope: ScopeAccount},
	"registry":     {scope: ScopeShared},
	"automation":   {scope: ScopeWorkload},
	"keys":         {scope: ScopeEnvironment},
	"network":      {scope: ScopeEnvironment},
	"endpoints":    {scope: ScopeEnvironment},
	"connection":   {scope: ScopeEnvironment},
	"cluster":      {scope: ScopeEnvironment},
	"controllers":  {scope: ScopeEnvironment},
	"edge":         {scope: ScopeEnvironment},
	"postgresql":   {scope: ScopeActive, engine: estate.PostgreSQL},
	"mariadb":      {scope: ScopeActive, engine: estate.MariaDB},
	"cache":        {scope: ScopeActive, engine: estate.Redis},
	"dr":           {scope: ScopeDR},
	"service":      {scope: ScopeService},
	"frontend":     {scope: ScopeService},
	"website":      {scope: ScopeService},
}

// organizationID is the stack that makes accounts.
const organizationID = "management/organization"

// spot is an account and a region.
type spot struct {
	account estate.Account
	number  string
	region  string
}

// key is the same for two accounts that are one.
func (s spot) key() string { return cmp.Or(s.number, string(s.account)) + " " + s.region }

func (g *Graph) spot(account estate.Account, region string) spot {
	return spot{account: account, number: g.landing.Accounts.Number(account), region: region}
}

// place makes the stacks of the library's templates.
func (g *Graph) place(o Options) error {
	var wrong []string
	nameless := g.nameless(o.Library)
	for _, name := range o.Library.names() {
		if slices.Contains(g.landing.Without, name) {
			continue
		}
		if nameless[name] != "" {
			g.find(SeverityNote, "no-domain", name, "name one under landing.domain", "is left out, for %s", nameless[name])
			continue
		}
		t := o.Library[name]
		scope := cmp.Or(t.Scope, placed[name].scope)
		switch {
		case scope == "":
			wrong = append(wrong, fmt.Sprintf("the template %s does not say where it is deployed: add Metadata.Dhow.Scope, one of %s", name, scopeNames()))
			continue
		case !slices.Contains(scopes, scope):
			wrong = append(wrong, fmt.Sprintf("the template %s has the scope %q, which is none: want one of %s", name, scope, scopeNames()))
			continue
		case !wanted(o.Estate, placed[name].engine):
			continue
		}
		for _, s := range g.spread(t, scope) {
			s.Template, s.template = name, t
			s.Data = slices.ContainsFunc(t.Resources, func(r Resource) bool { return holdsData(r.Type) })
			s.tags = g.tags(s)
			g.Stacks = append(g.Stacks, s)
			g.byID[s.ID] = s
		}
	}
	for name := range maps.Keys(g.landing.Parameters) {
		if o.Library[name] == nil {
			return g.landing.Wrong("parameters."+name, "there is no template %q: %s", name, strings.Join(o.Library.names(), ", "))
		}
	}
	for i, name := range g.landing.Without {
		if o.Library[name] == nil {
			return g.landing.Wrong("without["+strconv.Itoa(i)+"]", "there is no template %q: %s", name, strings.Join(o.Library.names(), ", "))
		}
	}
	for i, s := range g.landing.Services {
		if o.Library[s.Template] == nil {
			return g.landing.Wrong("services["+strconv.Itoa(i)+"].template", "there is no template %q: %s", s.Template, strings.Join(o.Library.names(), ", "))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return nil
}

// nameless are the templates that can not be without a domain, in an estate that has
// none, each with why: they need its name, or something of those that do.
func (g *Graph) nameless(l Library) map[string]string {
	out := map[string]string{}
	if g.landing.Domain != "" {
		return out
	}
	for again := true; again; {
		again = false
		for _, name := range l.names() {
			if out[name] != "" {
				continue
			}
			for _, p := range l[name].Parameters {
				if _, own := g.landing.Parameters[name][p.Name]; own || p.Default != nil {
					continue
				}
				why := ""
				if p.Name == domainParameter {
					why = "the estate has no domain"
				} else if from := l.lost(p.Name, out); from != "" {
					why = "it needs " + p.Name + " of " + from + ", which is left out"
				}
				if why != "" {
					out[name], again = why, true
					break
				}
			}
		}
	}
	return out
}

// lost is one of the templates that give an output, where all of them are left out.
func (l Library) lost(output string, out map[string]string) string {
	from := ""
	for _, prefix := range []string{"", "Main", "Dr", "Dev", "Sit"} {
		output, ok := strings.CutPrefix(output, prefix)
		if !ok {
			continue
		}
		for _, name := range l.names() {
			switch {
			case !l[name].gives(output):
			case out[name] == "":
				return ""
			default:
				from = name
			}
		}
	}
	return from
}

func scopeNames() string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// wanted says whether the estate has databases of an engine, or tells of none at all.
func wanted(e *estate.Estate, engine estate.Engine) bool {
	return engine == "" || len(e.Databases) == 0 || slices.ContainsFunc(e.Databases, func(d estate.Database) bool { return d.Engine == engine })
}

// spread is a template's stacks, each with its place.
func (g *Graph) spread(t *Template, scope Scope) []*Stack {
	l := g.landing
	var found []*Stack
	taken := map[string]bool{} // accounts that are one get one stack
	shared := func(at spot, id string) {
		if !taken[at.key()] {
			taken[at.key()] = true
			found = append(found, &Stack{ID: id, Name: g.Application + "-" + t.Name, Account: at.account, Number: at.number, Region: at.region, Environment: Shared})
		}
	}
	in := func(e *estate.Environment, service string) {
		at := g.spot(estate.Account(e.Account), l.Region(e))
		part := t.Name
		if service != "" {
			part += "-" + service
		}
		found = append(found, &Stack{ID: e.Name + "/" + part, Name: g.Application + "-" + e.Name + "-" + part, Account: at.account, Number: at.number, Region: at.region, Environment: e.Name, Service: service})
	}
	switch scope {
	case ScopeManagement:
		shared(g.spot(estate.Management, l.Regions.Home), "management/"+t.Name)
	case ScopeSecurity:
		shared(g.spot(estate.Security, l.Regions.Home), "security/"+t.Name)
	case ScopeShared:
		shared(g.spot(estate.Production, l.Regions.Main), "production/"+t.Name)
	case ScopeAccount:
		for _, a := range accounts {
			shared(g.spot(a, l.Regions.Home), string(a)+"/"+t.Name)
		}
	case ScopeRegion:
		for _, a := range accounts {
			for _, region := range g.regionsOf(a) {
				shared(g.spot(a, region), string(a)+"/"+t.Name+"@"+region)
			}
		}
	case ScopeWorkload:
		for i := range l.Environments {
			e := &l.Environments[i]
			shared(g.spot(estate.Account(e.Account), l.Region(e)), e.Account+"/"+t.Name+"@"+l.Region(e))
		}
	case ScopeEnvironment, ScopeActive, ScopeDR, ScopeService:
		for i := range l.Environments {
			e := &l.Environments[i]
			dr := e.Name == estate.EnvironmentDR
			if scope == ScopeActive && dr || scope == ScopeDR && !dr {
				continue
			}
			if scope != ScopeService {
				in(e, "")
				continue
			}
			for _, s := range l.Services {
				if s.Template == t.Name {
					in(e, s.Name)
				}
			}
		}
	}
	return found
}

var accounts = []estate.Account{estate.Management, estate.Security, estate.NonProduction, estate.Production}

// regionsOf are the regions in which an account has anything, sorted: home, and those
// of its environments; security's are all, for findings arise in all.
func (g *Graph) regionsOf(a estate.Account) []string {
	l := g.landing
	regions := []string{l.Regions.Home}
	for i := range l.Environments {
		e := &l.Environments[i]
		if e.Account == string(a) || a == estate.Security {
			regions = append(regions, l.Region(e))
		}
	}
	slices.Sort(regions)
	return slices.Compact(regions)
}

// tags are those that CloudFormation lays on a stack and its resources.
func (g *Graph) tags(s *Stack) map[string]string {
	tags := maps.Clone(g.landing.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags["Application"], tags["Environment"], tags[tagStack] = g.Application, s.Environment, s.Template
	return tags
}

// tagStack is the tag by which a stack is known as dhow's; its value is the template's name.
const tagStack = "dhow:stack"

// dataTypes hold what can not be made again.
var dataTypes = map[string]bool{
	"AWS::RDS::DBInstance": true, "AWS::RDS::DBCluster": true, "AWS::ElastiCache::ReplicationGroup": true, "AWS::ElastiCache::ServerlessCache": true,
	"AWS::S3::Bucket": true, "AWS::DynamoDB::Table": true, "AWS::DynamoDB::GlobalTable": true, "AWS::EFS::FileSystem": true, "AWS::KMS::Key": true, "AWS::KMS::ReplicaKey": true,
	"AWS::Backup::BackupVault": true, "AWS::ECR::Repository": true, "AWS::Organizations::Account": true, "AWS::SecretsManager::Secret": true, "AWS::Logs::LogGroup": false,
}

func holdsData(typ string) bool { return dataTypes[typ] }
