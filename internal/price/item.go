package price

import (
	"cmp"
	"fmt"
	"strings"
)

// Kind is what an item is.
type Kind string

// The kinds of items, and which fields of an Item count beside Name, Region and
// Environment. Count is 1 where it is left out, Hours the list's whole month.
const (
	// Cluster is EKS's control plane: Count, Hours.
	Cluster Kind = "eks"
	// Instance is EC2 under Linux: Class, Count, Hours; its disk: StorageGB of each.
	Instance Kind = "ec2"
	// Fargate is tasks of ECS or EKS: MilliCPU and MemoryMiB of one, ARM, Count, Hours.
	Fargate Kind = "fargate"
	// Database is RDS: Class, Engine (postgres, mariadb, mysql), MultiAZ, Count, Hours,
	// StorageGB, IOPS and MBps beyond what gp3 has, BackupGB beyond the free ones.
	Database Kind = "rds"
	// Cache is ElastiCache: Class, Engine (valkey, redis), Count is its nodes, Hours.
	Cache Kind = "elasticache"
	// ALB and NLB are load balancers: Count, Units, Hours.
	ALB Kind = "alb"
	NLB Kind = "nlb"
	// NAT is NAT gateways: Count, DataGB.
	NAT Kind = "nat"
	// Endpoint is VPC interface endpoints: Count is endpoints times zones, DataGB.
	Endpoint Kind = "endpoint"
	// Address is public IPv4 addresses: Count.
	Address Kind = "ipv4"
	// Registry is ECR's images: StorageGB.
	Registry Kind = "ecr"
	// Bucket is S3: StorageGB.
	Bucket Kind = "s3"
	// Logs is CloudWatch's: DataGB taken in, StorageGB kept.
	Logs Kind = "logs"
	// Internet, Zones and Regions are data that goes out to the internet, between zones
	// (counted once; both ends are paid for) and to another region: DataGB.
	Internet Kind = "internet"
	Zones    Kind = "zones"
	Regions  Kind = "regions"
	// Secret is Secrets Manager's: Count, Calls.
	Secret Kind = "secret"
	// Key is KMS': Count, Calls.
	Key Kind = "kms"
	// Recorder is AWS Config: Calls is the items that it records.
	Recorder Kind = "config"
	// Checks is Security Hub: Calls is its checks.
	Checks Kind = "securityhub"
	// Detector is GuardDuty: Calls is management events, DataGB flow and DNS logs.
	Detector Kind = "guardduty"
	// Firewall is WAF: Count is web ACLs, Rules of each, Calls requests.
	Firewall Kind = "waf"
	// Zone is Route 53's hosted zones: Count.
	Zone Kind = "route53"
	// Trail is CloudTrail beyond the first, free one: Calls is its events.
	Trail Kind = "cloudtrail"
)

// Group is what a kind belongs to in a bill.
type Group string

// The groups, in the order of a bill.
const (
	Compute   Group = "compute"
	Data      Group = "databases"
	Network   Group = "network"
	Storage   Group = "storage"
	Security  Group = "security"
	numGroups       = 5
)

var groupOrder = [numGroups]Group{Compute, Data, Network, Storage, Security}

// Item is one thing of a plan that is paid for, for a month. Numbers that its kind has
// no use for are left out.
type Item struct {
	Kind Kind `json:"kind"`
	// Name says whose it is: a workload, a database, a cluster.
	Name   string `json:"name"`
	Region string `json:"region"`
	// Environment is whose budget it is of, as production; Production says that the goals of
	// a production hold for it.
	Environment string `json:"environment,omitempty"`
	Production  bool   `json:"production,omitempty"`

	Class  string `json:"class,omitempty"`
	Engine string `json:"engine,omitempty"`
	Count  int    `json:"count,omitempty"`
	// Hours a month, of each; 0 is all.
	Hours   int  `json:"hours,omitempty"`
	MultiAZ bool `json:"multi_az,omitempty"`
	ARM     bool `json:"arm,omitempty"`
	// MilliCPU are thousandths of a vCPU.
	MilliCPU  int `json:"milli_cpu,omitempty"`
	MemoryMiB int `json:"memory_mib,omitempty"`
	StorageGB int `json:"storage_gb,omitempty"`
	// IOPS and MBps are those beyond what the storage has for nothing.
	IOPS     int `json:"iops,omitempty"`
	MBps     int `json:"mbps,omitempty"`
	BackupGB int `json:"backup_gb,omitempty"`
	// DataGB is a month's.
	DataGB int `json:"data_gb,omitempty"`
	// Units are a load balancer's capacity units on the average, in thousandths.
	Units int `json:"units,omitempty"`
	// Calls are a month's.
	Calls int `json:"calls,omitempty"`
	Rules int `json:"rules,omitempty"`
	// Percent is what is paid of the price of hours, where a commitment lowers it; 0 is all of it.
	Percent int `json:"percent,omitempty"`
}

// String says whose it is: "rds production accounts".
func (i Item) String() string {
	var b strings.Builder
	b.WriteString(string(i.Kind))
	if i.Environment != "" {
		b.WriteString(" " + i.Environment)
	}
	b.WriteString(" " + i.Name)
	return b.String()
}

// most is the largest number that an item may have, of anything.
const most = 1_000_000_000_000

func (i Item) check() error {
	for _, n := range []struct {
		name string
		v    int
	}{{"count", i.Count}, {"hours", i.Hours}, {"milli_cpu", i.MilliCPU}, {"memory_mib", i.MemoryMiB}, {"storage_gb", i.StorageGB}, {"iops", i.IOPS}, {"mbps", i.MBps},
		{"backup_gb", i.BackupGB}, {"data_gb", i.DataGB}, {"units", i.Units}, {"calls", i.Calls}, {"rules", i.Rules}} {
		if n.v < 0 || n.v > most {
			return fmt.Errorf("%s: %s is %d: want a number from 0 to %d", i, n.name, n.v, most)
		}
	}
	if i.Percent < 0 || i.Percent > 100 {
		return fmt.Errorf("%s: percent is %d: want a number from 0 to 100", i, i.Percent)
	}
	if i.Region == "" {
		return fmt.Errorf("%s: it is in no region", i)
	}
	return nil
}

// part is one price that an item is made of.
type part struct {
	what   string
	code   Code
	amount Amount
	group  Group
	// committed says that a commitment lowers it.
	committed bool
}

// parts are what an item is paid for.
func (i Item) parts(hours int) ([]part, error) {
	n := int64(max(1, i.Count))
	h := Amount(n * int64(cmp.Or(i.Hours, hours)) * milli)
	always := Amount(n * int64(hours) * milli)
	of := func(v int) Amount { return Amount(int64(v) * milli) }
	each := func(v int) Amount { return Amount(n * int64(v) * milli) }
	calls := func(per int) Amount { return Amount((int64(i.Calls)*milli + int64(per)/2) / int64(per)) }
	times := ""
	if n > 1 {
		times = fmt.Sprintf("%d x ", n)
	}
	var all []part
	add := func(what string, code Code, amount Amount, group Group) {
		if amount > 0 {
			all = append(all, part{what: what, code: code, amount: amount, group: group})
		}
	}
	switch i.Kind {
	case Cluster:
		add(times+"EKS control plane", "eks/cluster", h, Compute)
	case Instance:
		if i.Class == "" {
			return nil, fmt.Errorf("%s: it has no class", i)
		}
		all = append(all, part{times + i.Class, Code("ec2/" + i.Class), h, Compute, true})
		add(times+fmt.Sprintf("disk of %d GB", i.StorageGB), "ebs/gp3", each(i.StorageGB), Storage)
	case Fargate:
		if i.MilliCPU == 0 || i.MemoryMiB == 0 {
			return nil, fmt.Errorf("%s: its tasks have no CPU or no memory", i)
		}
		arm := ""
		if i.ARM {
			arm = "-arm"
		}
		hour := int64(h / milli)
		all = append(all,
			part{times + fmt.Sprintf("Fargate task, %d.%03d vCPU", i.MilliCPU/1000, i.MilliCPU%1000), Code("fargate/vcpu" + arm), Amount(hour * int64(i.MilliCPU)), Compute, true},
			part{times + fmt.Sprintf("Fargate task, %d MiB", i.MemoryMiB), Code("fargate/gb" + arm), Amount((hour*int64(i.MemoryMiB)*milli + 512) / 1024), Compute, true})
	case Database:
		if i.Class == "" || i.Engine == "" {
			return nil, fmt.Errorf("%s: it has no class or no engine", i)
		}
		double, where := Amount(1), ""
		if i.MultiAZ {
			double, where = 2, ", in two zones" // the standby costs what the primary costs
		}
		all = append(all, part{times + i.Class + ", " + i.Engine + where, Code("rds/" + i.Engine + "/" + i.Class), h * double, Data, true})
		add(fmt.Sprintf("%s%d GB of gp3%s", times, i.StorageGB, where), "rds/gp3", each(i.StorageGB)*double, Data)
		add(fmt.Sprintf("%s%d IOPS more%s", times, i.IOPS, where), "rds/gp3-iops", each(i.IOPS)*double, Data)
		add(fmt.Sprintf("%s%d MB/s more%s", times, i.MBps, where), "rds/gp3-mbps", each(i.MBps)*double, Data)
		add("backups beyond the free ones", "rds/backup", of(i.BackupGB), Data)
	case Cache:
		if i.Class == "" || i.Engine == "" {
			return nil, fmt.Errorf("%s: it has no class or no engine", i)
		}
		all = append(all, part{times + i.Class + ", " + i.Engine, Code("elasticache/" + i.Engine + "/" + i.Class), h, Data, true})
	case ALB, NLB:
		name := strings.ToUpper(string(i.Kind))
		add(times+name, Code(string(i.Kind)+"/hour"), h, Network)
		add("capacity units of "+name, Code(string(i.Kind)+"/lcu"), Amount(int64(i.Units)*int64(hours)), Network)
	case NAT:
		add(times+"NAT gateway", "nat/hour", h, Network)
		add("data through NAT gateways", "nat/gb", of(i.DataGB), Network)
	case Endpoint:
		add(times+"interface endpoint in a zone", "endpoint/hour", h, Network)
		add("data through interface endpoints", "endpoint/gb", of(i.DataGB), Network)
	case Address:
		add(times+"public IPv4 address", "ipv4/hour", always, Network)
	case Internet:
		add("data to the internet", "transfer/internet", of(i.DataGB), Network)
	case Zones:
		add("data between zones, at both ends", "transfer/zone", 2*of(i.DataGB), Network)
	case Regions:
		add("data to another region", "transfer/region", of(i.DataGB), Network)
	case Zone:
		add(times+"hosted zone", "route53/zone", of(int(n)), Network)
	case Registry:
		add("images", "ecr/storage", of(i.StorageGB), Storage)
	case Bucket:
		add("objects", "s3/storage", of(i.StorageGB), Storage)
	case Logs:
		add("logs taken in", "logs/ingest", of(i.DataGB), Storage)
		add("logs kept", "logs/storage", of(i.StorageGB), Storage)
	case Secret:
		add(times+"secret", "secrets/secret", of(int(n)), Security)
		add("calls of Secrets Manager", "secrets/calls", calls(10000), Security)
	case Key:
		add(times+"key", "kms/key", of(int(n)), Security)
		add("calls of KMS", "kms/calls", calls(10000), Security)
	case Recorder:
		add("changes recorded by Config", "config/item", of(i.Calls), Security)
	case Checks:
		add("checks by Security Hub", "securityhub/check", of(i.Calls), Security)
	case Detector:
		add("events seen by GuardDuty", "guardduty/events", calls(1000000), Security)
		add("flow and DNS logs seen by GuardDuty", "guardduty/logs", of(i.DataGB), Security)
	case Firewall:
		add(times+"web ACL", "waf/acl", of(int(n)), Security)
		add("rules of web ACLs", "waf/rule", each(i.Rules), Security)
		add("requests seen by WAF", "waf/requests", calls(1000000), Security)
	case Trail:
		add("events of trails beyond the first", "cloudtrail/events", calls(100000), Security) // a price is of 100,000
	default:
		return nil, fmt.Errorf("%s: nothing is known to cost of the kind %q", i, i.Kind)
	}
	for _, p := range all {
		if p.amount > maxAmount*milli {
			return nil, fmt.Errorf("%s: %s is too much to count: look for a mistyped number", i, p.what)
		}
	}
	return all, nil
}
