package plan

import (
	"cmp"
	"fmt"
	"strings"

	"dhow/internal/estate"
	"dhow/internal/inventory"
	"dhow/internal/region"
)

const (
	// deployer is the role that dhow assumes in each account.
	deployer = "dhow-deploy"
	// mostOfName is how many letters the landing zone's names have at most.
	mostOfName = 16
)

// homeTypes are what the stacks of the organization have and few regions offer.
var homeTypes = []string{ //nolint:gochecknoglobals // a constant list
	"AWS::Budgets::Budget", "AWS::CE::CostCategory", "AWS::SecurityHub::ConfigurationPolicy", "AWS::SecurityHub::FindingAggregator", "AWS::SecurityHub::PolicyAssociation",
}

// classParameters are the parameters of a server's class, by the engine.
var classParameters = map[inventory.Engine]struct{ template, parameter string }{ //nolint:gochecknoglobals // a constant table
	inventory.PostgreSQL: {"postgresql", "PostgresqlInstanceClass"},
	inventory.MariaDB:    {"mariadb", "MariadbInstanceClass"},
	inventory.Redis:      {"cache", "CacheNodeType"},
}

// landing is what `dhow deploy` builds: the accounts, regions and networks of the plan, a
// stack for each workload in each of them, and servers of the plan's sizes. It is nil
// without a region for disaster recovery, which a landing zone has.
func (m *maker) landing() *estate.Landing {
	if m.dr == nil {
		return nil
	}
	l := &estate.Landing{
		Application: shortened(m.plan.Name, nil),
		// One account at least must have a number for the file to be taken.
		Accounts: estate.Accounts{Management: cmp.Or(m.o.Accounts[management], unknownAccount), Security: m.o.Accounts[security],
			NonProduction: m.o.Accounts[nonproduction], Production: m.o.Accounts[production]},
		Role:       estate.Role{Name: deployer},
		Regions:    estate.Regions{Main: m.primary.Name, DR: m.dr.Name, Home: m.homeRegion().Name},
		Domain:     m.domain(),
		Parameters: estate.Parameters{},
	}
	for _, at := range []struct{ environment, account, region string }{
		{estate.EnvironmentDev, nonproduction, m.primary.Name}, {estate.EnvironmentMain, production, m.primary.Name}, {estate.EnvironmentDR, production, m.dr.Name},
	} {
		for _, n := range m.plan.Networks {
			if n.Account == at.account && n.Region == at.region {
				l.Environments = append(l.Environments, estate.Environment{Name: at.environment, Network: n.CIDR.String(),
					Parameters: estate.Parameters{"cluster": {"ServiceCidr": n.Services.String()}}})
			}
		}
	}
	taken := map[string]bool{}
	for _, u := range m.units {
		template, ok := map[Place]string{EKS: estate.DefaultTemplate, ECS: "frontend", EC2: "website"}[u.place]
		if ok {
			l.Services = append(l.Services, estate.Service{Name: shortened(u.name, taken), Template: template})
		}
	}
	for _, s := range m.stores {
		p, ok := classParameters[s.engine]
		if !ok || !s.moves || s.item.class == "" {
			continue
		}
		if l.Parameters[p.template] != nil {
			m.decide(Decision{Object: s.name, What: "the landing zone's templates stand for one server of an engine, and this is another", Do: "deploy its stack with an estate of its own, or let the databases of both live in one server"})
			continue
		}
		l.Parameters[p.template] = map[string]string{p.parameter: s.item.class}
	}
	return l
}

// homeRegion is where an organization's own things stand: the primary region if it has
// them, or else the nearest that has, and is in nobody's way.
func (m *maker) homeRegion() *region.Region {
	if len(m.primary.Lacks(homeTypes...)) == 0 {
		return m.primary
	}
	best := m.primary
	for _, r := range m.catalog.Regions() {
		if _, unfit := r.Unfit(); unfit || len(r.Lacks(homeTypes...)) > 0 {
			continue
		}
		if best == m.primary || m.primary.RoundTrip(r) < m.primary.RoundTrip(best) {
			best = r
		}
	}
	return best
}

// shortened is a name as stacks and load balancers bear it; those taken are noted.
func shortened(name string, taken map[string]bool) string {
	fits := func(text string, most int) string {
		text = strings.TrimLeft(label(text), "-0123456789")
		return strings.TrimRight(text[:min(len(text), most)], "-")
	}
	short := cmp.Or(fits(name, mostOfName), "workload")
	for n := 2; taken[short]; n++ {
		end := fmt.Sprint("-", n)
		short = cmp.Or(fits(name, mostOfName-len(end)), "workload") + end
	}
	if taken != nil {
		taken[short] = true
	}
	return short
}
