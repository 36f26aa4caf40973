package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/inventory"
	"dhow/internal/price"
	"dhow/internal/sizing"
)

// What is assumed of a month where nothing is known of traffic.
const (
	// natGB and endpointGB are data through NAT gateways and endpoints; logGB what the workloads
	// log, each; crossGB what goes between zones, each.
	natGB, endpointGB, logGB, crossGB = 50, 50, 5, 10
	// internetGB is what all of a plan sends to users.
	internetGB = 200
	// replicaGB is what a database sends to the other region.
	replicaGB = 50
	// balancerUnits are a load balancer's capacity units on the average, in thousandths.
	balancerUnits = 1000
	// imageGB is what an image takes with its last versions.
	imageGB = 1
	// secretCalls is how often a secret is read in a month.
	secretCalls = 10_000
	// endpoints are the interface endpoints of a network: ECR's two, logs, secrets, STS, EC2, EKS, load balancing.
	endpoints = 8
	// recordedItems, securityChecks and managementEvents are the guard's, for an account.
	recordedItems, securityChecks, managementEvents = 3000, 5000, 1_000_000
	// nodeDisk is a node's disk, in GB.
	nodeDisk = 50
	// wafRules is how many rules a web ACL has: those that AWS keeps.
	wafRules = 4
)

// Cost is what a month costs.
type Cost struct {
	Currency string `json:"currency"`
	// Date is the day of the newest prices.
	Date      string     `json:"date"`
	Total     string     `json:"total"`
	Estimated string     `json:"estimated"`
	Groups    []CostSum  `json:"groups"`
	Places    []CostSum  `json:"environments"`
	Lines     []CostLine `json:"lines"`
	// Assumptions are what the amounts rest on.
	Assumptions []string `json:"assumptions"`
	// Cheapest is the change that saves most and still meets the goals; Others are those behind it.
	Cheapest *Saving  `json:"cheapest_change,omitempty"`
	Others   []Saving `json:"other_changes,omitempty"`
}

// CostSum is a part of the whole.
type CostSum struct {
	Name string `json:"name"`
	Cost string `json:"cost"`
}

// CostLine is one item.
type CostLine struct {
	Environment string `json:"environment"`
	Region      string `json:"region"`
	Name        string `json:"name"`
	What        string `json:"what"`
	Amount      string `json:"amount"`
	Rate        string `json:"rate"`
	Cost        string `json:"cost"`
	// Estimate says that nobody published this price for this region.
	Estimate bool `json:"estimate,omitempty"`
}

// Saving is a way to pay less.
type Saving struct {
	What    string `json:"what"`
	Saving  string `json:"saving"`
	GivenUp string `json:"given_up"`
}

// reckon counts what the plan is made of.
func (m *maker) reckon() error {
	items := m.items()
	bill, err := m.prices.Monthly(items)
	if err != nil {
		// A file of prices may be of other regions: the rest of the plan holds without it.
		m.decide(Decision{What: "the cost is not reckoned: " + err.Error(), Do: "name a file with the missing price by --prices"})
		return nil //nolint:nilerr // told in the plan
	}
	c := &Cost{Currency: bill.Currency, Date: bill.Date, Total: bill.Total.String(), Estimated: bill.Estimated.String(), Assumptions: []string{
		fmt.Sprintf("a month has %d hours; discounts, taxes, support and free tiers are not in it", bill.Hours),
		fmt.Sprintf("traffic is assumed: %d GB to users, %d GB through NAT in each network, %d GB of logs a workload", internetGB, natGB, logGB),
		"the other region for disaster recovery has its network, its databases' replicas and no nodes until it is needed; non-production has one of each in one zone",
	}}
	for _, b := range m.plan.Balancers {
		if b.Kind == distribution {
			c.Assumptions = append(c.Assumptions, "CloudFront is paid for by request and by GB, and is not in it")
			break
		}
	}
	for _, s := range bill.Groups {
		c.Groups = append(c.Groups, CostSum{s.Of, s.Cost.String()})
	}
	for _, s := range bill.Environments {
		c.Places = append(c.Places, CostSum{s.Of, s.Cost.String()})
	}
	for _, l := range bill.Lines {
		c.Lines = append(c.Lines, CostLine{l.Item.Environment, l.Item.Region, l.Item.Name, l.What, l.Amount.String() + " " + l.Quote.Per, l.Quote.Rate.String(), l.Cost.String(), l.Quote.Estimate})
	}
	advice, err := m.prices.Cheapest(items, price.Goals{OneZone: true, ARM: m.o.Goals.ARM, CommitYears: m.o.Goals.CommitYears, NeededHours: m.o.Goals.NonproductionHours, Offered: func(r, service, class string) bool {
		in, err := m.catalog.Lookup(r)
		if err != nil {
			return false
		}
		has, err := in.HasInstance(service, class)
		return err == nil && has
	}})
	if err != nil {
		return err
	}
	changes := slices.Clone(advice.Changes)
	slices.SortStableFunc(changes, func(a, b price.Change) int { return cmp.Compare(b.Saving, a.Saving) })
	for _, x := range changes {
		c.Others = append(c.Others, Saving{x.What, x.Saving.String(), x.GivenUp})
	}
	if len(c.Others) > 0 {
		c.Cheapest, c.Others = &c.Others[0], c.Others[1:]
	}
	m.plan.Cost = c
	return nil
}

// items are what the plan is made of, for a month.
func (m *maker) items() []price.Item {
	var all []price.Item
	for i := range m.plan.Networks {
		n := &m.plan.Networks[i]
		live := n.Account == production && n.Region == m.primary.Name
		add := func(item price.Item) {
			item.Region, item.Environment, item.Production = n.Region, n.Account, n.Account == production
			all = append(all, item)
		}
		zones := len(n.Zones)
		if n.Account != production {
			zones = 1
		}
		if live || n.Account != production {
			m.running(add, n, zones)
		}
		add(price.Item{Kind: price.NAT, Name: n.Name, Count: zones, DataGB: natGB})
		add(price.Item{Kind: price.Endpoint, Name: n.Name, Count: endpoints * zones, DataGB: endpointGB})
		add(price.Item{Kind: price.Key, Name: n.Name, Count: 4, Calls: secretCalls})
		add(price.Item{Kind: price.Recorder, Name: n.Name, Calls: recordedItems})
		add(price.Item{Kind: price.Checks, Name: n.Name, Calls: securityChecks})
		add(price.Item{Kind: price.Detector, Name: n.Name, Calls: managementEvents, DataGB: natGB})
		if live {
			add(price.Item{Kind: price.Internet, Name: m.plan.Name, DataGB: internetGB})
			add(price.Item{Kind: price.Zone, Name: m.plan.Name, Count: 2})
			add(price.Item{Kind: price.Registry, Name: m.plan.Name, StorageGB: imageGB * max(1, len(m.plan.Images))})
			if m.dr != nil {
				add(price.Item{Kind: price.Regions, Name: m.plan.Name, DataGB: replicaGB * max(1, len(m.plan.Databases))})
			}
		}
		for _, s := range m.stores {
			m.storeItem(add, s, n.Account == production, n.Account == production && !live)
		}
		if len(m.plan.Secrets) > 0 {
			add(price.Item{Kind: price.Secret, Name: m.plan.Name, Count: len(m.plan.Secrets), Calls: secretCalls})
		}
	}
	return all
}

// running is what serves in a network.
func (m *maker) running(add func(price.Item), n *Network, zones int) {
	live := n.Account == production
	workloads := 0
	for _, u := range m.units {
		if !u.moves() || u.runsJobs() {
			continue
		}
		workloads++
		copies := int(u.scaling.Least)
		if !live {
			copies = 1
		}
		switch u.place {
		case ECS:
			cpu, memory := fargate(u)
			add(price.Item{Kind: price.Fargate, Name: u.name, Count: copies, MilliCPU: cpu, MemoryMiB: memory})
		case EC2:
			if class := m.siteClass(); class != "" {
				add(price.Item{Kind: price.Instance, Name: u.name, Class: class, Count: copies, StorageGB: nodeDisk})
			}
		case EKS, Managed, Left:
		}
	}
	if nodes, ok := m.nodes(); ok {
		add(price.Item{Kind: price.Cluster, Name: n.Name, Count: 1})
		count := nodes.Count
		if !live {
			count = max(1, (nodes.Count+1)/max(1, len(m.home().Zones)))
		}
		add(price.Item{Kind: price.Instance, Name: "nodes", Class: nodes.Class, Count: count, StorageGB: nodeDisk})
	}
	for _, b := range m.plan.Balancers {
		if b.Kind == connectionBalancer {
			add(price.Item{Kind: price.NLB, Name: b.Name, Count: 1, Units: balancerUnits})
			if b.Scope == Public {
				add(price.Item{Kind: price.Address, Name: b.Name, Count: zones})
			}
		}
		if b.Kind != loadBalancer {
			continue
		}
		add(price.Item{Kind: price.ALB, Name: b.Name, Count: 1, Units: balancerUnits})
		if b.Scope == Public {
			add(price.Item{Kind: price.Address, Name: b.Name, Count: zones})
			if live {
				add(price.Item{Kind: price.Firewall, Name: b.Name, Count: 1, Rules: wafRules, Calls: managementEvents})
			}
		}
	}
	add(price.Item{Kind: price.Logs, Name: n.Name, DataGB: logGB * max(1, workloads), StorageGB: logGB * max(1, workloads)})
	if live {
		add(price.Item{Kind: price.Zones, Name: n.Name, DataGB: crossGB * max(1, workloads)})
	}
}

// storeItem is a database server's, in production, as the replica of it in the other
// region, or in non-production.
func (m *maker) storeItem(add func(price.Item), s *store, production, replica bool) {
	if !s.moves || s.item.class == "" || replica && !serviceOf(s.engine).Moved {
		return
	}
	switch s.engine {
	case inventory.PostgreSQL, inventory.MariaDB, inventory.MySQL:
		add(price.Item{Kind: price.Database, Name: s.name, Class: s.item.class, Engine: strings.TrimPrefix(serviceOf(s.engine).Service, "rds/"), Count: 1, MultiAZ: s.item.standby && production && !replica,
			StorageGB: s.item.storageGiB, IOPS: s.item.extraIOPS, MBps: s.item.extraMBps})
	case inventory.Redis:
		count := max(1, s.item.nodes)
		if !production || replica {
			count = 1
		}
		add(price.Item{Kind: price.Cache, Name: s.name, Class: s.item.class, Engine: "valkey", Count: count})
	}
}

// fargateSizes are the vCPUs that a task may have, in thousandths, and the least memory of each in MiB.
//
//nolint:gochecknoglobals // a constant table
var fargateSizes = [][2]int{{250, 512}, {500, 1024}, {1000, 2048}, {2000, 4096}, {4000, 8192}, {8000, 16384}, {16000, 32768}}

// fargate is the smallest task that holds a unit's containers.
func fargate(u *unit) (milliCPU, memoryMiB int) {
	var cpu sizing.Milli
	var memory sizing.Bytes
	for _, b := range u.containers {
		cpu += b.size.CPU
		memory += b.size.Memory
	}
	need := int((memory + sizing.MiB - 1) / sizing.MiB)
	for _, s := range fargateSizes {
		if int64(s[0]) >= int64(cpu) && s[1]*4 >= need {
			// Memory is by the GiB.
			const gib = 1024
			return s[0], max(s[1], (need+gib-1)/gib*gib)
		}
	}
	last := fargateSizes[len(fargateSizes)-1]
	return last[0], max(last[1], need)
}
