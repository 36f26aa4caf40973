package sizing

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Database is a relational database as it is today. What is not known is 0.
type Database struct {
	Name string
	// Engine is postgres, mariadb or mysql.
	Engine string
	// Size is what it takes on disk; Growth what it grows in a month.
	Size, Growth Bytes
	// Memory is what its server has today, CPU how many cores it has, and CPUUsed how many
	// it uses at the 95th percentile.
	Memory  Bytes
	CPU     Milli
	CPUUsed Milli
	// HotSet is the part of the data that is in use, if that is known.
	HotSet Bytes
	// Connections is the most that were open at once.
	Connections int
	// IOPS and MBps are the disk's at the 95th percentile.
	IOPS, MBps int
	// Production says that it must outlive a zone.
	Production bool
}

// Cache is a Redis or Valkey as it is today. What is not known is 0.
type Cache struct {
	Name string
	// Engine is redis or valkey.
	Engine string
	// Used is the most memory that its data took.
	Used Bytes
	// Connections is the most that were open at once; Operations is how many a second at
	// the 95th percentile.
	Connections, Operations int
	Production              bool
}

// Offered says whether the region of the plan has a class; nil has every class.
type Offered func(class string) bool

// DatabaseSize is what a database needs of RDS.
type DatabaseSize struct {
	Name  string `json:"name"`
	Class string `json:"class"`
	VCPU  int    `json:"vcpu"`
	// Memory is the class'.
	Memory Bytes `json:"memory"`
	// StorageGB is gp3's; MaxStorageGB is up to where it may grow by itself.
	StorageGB    int `json:"storage_gb"`
	MaxStorageGB int `json:"max_storage_gb"`
	// IOPS and MBps are the storage's in all; ExtraIOPS and ExtraMBps are those of them
	// that are paid for.
	IOPS      int `json:"iops"`
	MBps      int `json:"mbps"`
	ExtraIOPS int `json:"extra_iops,omitempty"`
	ExtraMBps int `json:"extra_mbps,omitempty"`
	// MaxConnections is what the engine's own rule gives a server of the class.
	MaxConnections int  `json:"max_connections"`
	MultiAZ        bool `json:"multi_az"`

	ClassWhy   Figure `json:"class_why"`
	StorageWhy Figure `json:"storage_why"`
	MultiAZWhy Figure `json:"multi_az_why"`
	// Assumed says that some figure is an assumption.
	Assumed bool     `json:"assumed,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// CacheSize is what a cache needs of ElastiCache.
type CacheSize struct {
	Name  string `json:"name"`
	Class string `json:"class"`
	VCPU  int    `json:"vcpu"`
	// Memory is what a node of the class has for data, before what is kept free.
	Memory Bytes `json:"memory"`
	// Shards hold parts of the data, each on 1 primary and Replicas.
	Shards   int `json:"shards"`
	Replicas int `json:"replicas"`

	ClassWhy Figure   `json:"class_why"`
	NodesWhy Figure   `json:"nodes_why"`
	Assumed  bool     `json:"assumed,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// Nodes is how many nodes there are in all.
func (c CacheSize) Nodes() int { return c.Shards * (1 + c.Replicas) }

const (
	// hotShare is the part of a database that is taken to be in use where nobody says.
	hotShare = 0.2
	// cacheShare is the part of a server's memory that holds data; the rest is for
	// connections, sorting and the system.
	cacheShare = 0.6
	// mostAssumedMemory bounds what is asked for because of the data's size alone: who has
	// so much has measured it.
	mostAssumedMemory = 256 * GiB
	// busyTarget is how busy a database's cores are at the 95th percentile, in percent.
	busyTarget = 60
	// connectionHeadroom is in percent on top of the most connections that were open.
	connectionHeadroom = 50
	// growthMonths is how long storage lasts without growing.
	growthMonths = 12
	// storageHeadroom is in percent on top of a database's size, for indexes that are
	// built anew, and for the log that a move keeps.
	storageHeadroom = 50
	// leastStorage is gp3's least, in GB; mostStorage its most.
	leastStorage, mostStorage = 20, 65536
	// assumedDatabase is how large a database is taken to be where nobody says.
	assumedDatabase = 20 * GiB
	// ioHeadroom is in percent on top of the disk's use.
	ioHeadroom = 30

	// cacheFree is the part of a node's memory that is kept free for a snapshot, in percent:
	// ElastiCache's own reserved-memory-percent.
	cacheFree = 25
	// cacheHeadroom is in percent on top of what the data took.
	cacheHeadroom = 30
	// assumedCache is how much data a cache is taken to hold where nobody says.
	assumedCache = 512 * MiB
	// coreOperations is how many simple operations one core of a Redis does in a second.
	coreOperations = 80_000
)

// ForDatabase says which class and storage a database needs. An error says that no class
// is large enough, or that the region has none.
func ForDatabase(d Database, offered Offered) (DatabaseSize, error) {
	if err := d.check(); err != nil {
		return DatabaseSize{}, fmt.Errorf("size the database %s: %w", d.Name, err)
	}
	out := DatabaseSize{Name: d.Name, MultiAZ: d.Production}
	out.MultiAZWhy = Figure{Reason: "it is of production: a standby in a second zone takes over within two minutes"}
	if !d.Production {
		out.MultiAZWhy.Reason = "it is not of production: one zone will do"
	}
	var asks []string
	var memory Bytes
	var cpu Milli
	size, sizeKnown := d.Size, d.Size > 0
	if !sizeKnown {
		size = assumedDatabase
	}
	switch hot := d.HotSet; {
	case hot > 0:
		memory = Bytes(float64(hot) / cacheShare)
		asks = append(asks, fmt.Sprintf("%s of memory, for %s of data in use to fit into %d%% of it", memory, hot, int(cacheShare*100)))
	case d.Memory > 0:
		memory = d.Memory
		asks = append(asks, fmt.Sprintf("%s of memory, as its server has today", memory))
	default:
		memory = min(Bytes(float64(size)*hotShare/cacheShare), mostAssumedMemory)
		asks = append(asks, fmt.Sprintf("%s of memory, for a fifth of its %s, taken to be in use, to fit into %d%% of it", memory, size, int(cacheShare*100)))
	}
	if n := d.Connections; n > 0 {
		n = percent(n, 100+connectionHeadroom)
		need := connectionMemory(d.Engine, n)
		asks = append(asks, fmt.Sprintf("%d connections, the most that were open and %d%%", n, connectionHeadroom))
		memory = max(memory, need)
	}
	switch {
	case d.CPUUsed > 0:
		cpu = Milli(math.Ceil(float64(d.CPUUsed) * 100 / busyTarget))
		asks = append(asks, fmt.Sprintf("%s cores, for %s used at the 95th percentile to be %d%% of them", cpu, d.CPUUsed, busyTarget))
	case d.CPU > 0:
		cpu = d.CPU
		asks = append(asks, fmt.Sprintf("%s cores, as its server has today", cpu))
	}
	measured := d.HotSet > 0 || d.Memory > 0 || d.CPUUsed > 0
	c, err := pick("db.", cpu, memory, func(c Class) bool { return !d.Production || d.CPUUsed > 0 && d.CPUUsed <= idle(c) }, offered)
	if err != nil {
		return DatabaseSize{}, fmt.Errorf("size the database %s: %w", d.Name, err)
	}
	out.Class, out.VCPU, out.Memory = c.Name, c.VCPU, c.Memory
	out.MaxConnections = maxConnections(d.Engine, c.Memory)
	smallest := "the smallest class that has "
	if d.Production && !c.Burst {
		smallest = "the smallest class that keeps its speed, as a production needs it, and has "
	}
	out.ClassWhy = Figure{Reason: smallest + strings.Join(asks, "; "), Assumed: !measured}
	if !measured {
		out.ClassWhy.Reason = "its load was not measured: " + out.ClassWhy.Reason
	}
	if c.Burst {
		out.Notes = append(out.Notes, "the class works above its base for a while only: watch its CPU credits after the move")
	}
	out.storage(d, size, sizeKnown)
	out.Assumed = out.ClassWhy.Assumed || out.StorageWhy.Assumed
	return out, nil
}

// engines are those that there is a rule for, by their names in RDS.
var engines = []string{"postgres", "mariadb", "mysql"}

// mostData is in bytes: more than gp3 takes is a case for a person.
const mostData = Bytes(mostStorage) * GiB

func (d Database) check() error {
	if !slices.Contains(engines, d.Engine) {
		return fmt.Errorf("no rule for the engine %q: want %s", d.Engine, strings.Join(engines, ", "))
	}
	for _, v := range []Bytes{d.Size, d.Growth, d.Memory, d.HotSet, Bytes(d.CPU), Bytes(d.CPUUsed), Bytes(d.Connections), Bytes(d.IOPS), Bytes(d.MBps)} {
		if v < 0 || v > mostData {
			return errors.New("what was measured is below zero, or more than gp3 takes: split it")
		}
	}
	return nil
}

func percent(n, p int) int { return int((int64(n)*int64(p) + 99) / 100) }

// storage is gp3 for all: it is cheaper than gp2, and its speed is had without its size.
func (s *DatabaseSize) storage(d Database, size Bytes, known bool) {
	grown := float64(size)*(100+storageHeadroom)/100 + float64(d.Growth)*growthMonths
	s.StorageGB = min(max(stepGB(grown/float64(GiB)), leastStorage), mostStorage)
	s.MaxStorageGB = min(max(2*s.StorageGB, 100), mostStorage)
	reason := fmt.Sprintf("%s and %d%% headroom", size, storageHeadroom)
	if d.Growth > 0 {
		reason += fmt.Sprintf(", and %s a month for %d months", d.Growth, growthMonths)
	}
	if !known {
		reason = "its size is not known: " + reason + " is assumed"
	}
	base := gp3(s.StorageGB)
	s.IOPS, s.MBps = base.iops, base.mbps
	if need := percent(d.IOPS, 100+ioHeadroom); need > base.iops || percent(d.MBps, 100+ioHeadroom) > base.mbps {
		if !base.striped {
			// More speed is sold from the striped size on alone.
			s.StorageGB = stripedFrom
			s.MaxStorageGB = max(s.MaxStorageGB, 2*s.StorageGB)
			base = gp3(s.StorageGB)
			reason += fmt.Sprintf("; %d GB, for less can not be made faster", s.StorageGB)
		}
		s.IOPS = min(max(base.iops, stepTo(need, 1000)), mostIOPS)
		s.MBps = min(max(base.mbps, stepTo(percent(d.MBps, 100+ioHeadroom), 125)), mostMBps)
		s.ExtraIOPS, s.ExtraMBps = s.IOPS-base.iops, s.MBps-base.mbps
	}
	reason += fmt.Sprintf("; gp3 with %d IOPS and %d MB/s", s.IOPS, s.MBps)
	if d.IOPS > 0 {
		reason += fmt.Sprintf(" for the %d and %d that were used", d.IOPS, d.MBps)
	}
	s.StorageWhy = Figure{Reason: reason + fmt.Sprintf("; it may grow by itself up to %d GB", s.MaxStorageGB), Assumed: !known}
}

// What gp3 has under RDS for PostgreSQL, MariaDB and MySQL: from a size on it is striped
// over four volumes, and only then can it be made faster.
const (
	stripedFrom = 400
	mostIOPS    = 64_000
	mostMBps    = 4000
)

type speed struct {
	iops, mbps int
	striped    bool
}

func gp3(gb int) speed {
	if gb < stripedFrom {
		return speed{3000, 125, false}
	}
	return speed{12_000, 500, true}
}

func stepTo(n, step int) int { return (n + step - 1) / step * step }

// stepGB rounds up to whole tens, above 100 to fifties, above 1,000 to five hundreds.
func stepGB(gb float64) int {
	step := 500.0
	switch {
	case gb <= 100:
		step = 10
	case gb <= 1000:
		step = 50
	}
	return int(min(math.Ceil(gb/step-slack)*step, mostStorage))
}

// maxConnections is RDS' own default for the engine: PostgreSQL's LEAST(memory/9531392,
// 5000), MySQL's and MariaDB's memory/12582880, where the memory is what is left of the
// class' to the engine.
func maxConnections(engine string, memory Bytes) int {
	if engine == "postgres" {
		return int(min(memory/postgresPerConnection, 5000))
	}
	return int(min(memory/mysqlPerConnection, 16_000))
}

const (
	postgresPerConnection = 9_531_392
	mysqlPerConnection    = 12_582_880
)

func connectionMemory(engine string, n int) Bytes {
	if engine == "postgres" {
		return Bytes(n) * postgresPerConnection
	}
	return Bytes(n) * mysqlPerConnection
}

// ForCache says which class and how many nodes a cache needs. An error says that no class
// is large enough, or that the region has none.
func ForCache(c Cache, offered Offered) (CacheSize, error) {
	if c.Used < 0 || c.Used > mostData || c.Connections < 0 || c.Operations < 0 {
		return CacheSize{}, fmt.Errorf("size the cache %s: what was measured is below zero, or too much to be true", c.Name)
	}
	out := CacheSize{Name: c.Name, Shards: 1}
	used, known := c.Used, c.Used > 0
	if !known {
		used = assumedCache
	}
	memory := Bytes(float64(used) * (100 + cacheHeadroom) / 100 * 100 / (100 - cacheFree))
	why := fmt.Sprintf("the smallest class whose memory, less the %d%% that are kept free, holds %s of data and %d%%", cacheFree, used, cacheHeadroom)
	if !known {
		why = "its data was not measured: " + why
	}
	largest, err := largest("cache.", offered)
	if err != nil {
		return CacheSize{}, fmt.Errorf("size the cache %s: %w", c.Name, err)
	}
	for memory/Bytes(out.Shards) > largest.Memory || c.Operations/out.Shards > coreOperations {
		if out.Shards++; out.Shards > maxShards {
			return CacheSize{}, fmt.Errorf("size the cache %s: it needs more than %d shards: split its data by use", c.Name, maxShards)
		}
	}
	class, err := pick("cache.", 0, memory/Bytes(out.Shards), func(Class) bool { return !c.Production || c.Operations > 0 && c.Operations <= idleOperations }, offered)
	if err != nil {
		return CacheSize{}, fmt.Errorf("size the cache %s: %w", c.Name, err)
	}
	out.Class, out.VCPU, out.Memory = class.Name, class.VCPU, class.Memory
	if c.Production && !class.Burst {
		why += ", and that keeps its speed, as a production needs it"
	}
	out.ClassWhy = Figure{Reason: why, Assumed: !known}
	out.NodesWhy = Figure{Reason: "it is not of production: one node will do; its data is lost with it"}
	if c.Production {
		out.Replicas = 1
		out.NodesWhy.Reason = "it is of production: a replica in a second zone takes over within a minute"
	}
	if out.Shards > 1 {
		out.NodesWhy.Reason += fmt.Sprintf("; %d shards, for one node's memory or one core's operations are too few: its clients must speak Redis Cluster", out.Shards)
	}
	if class.Burst {
		out.Notes = append(out.Notes, "the class works above its base for a while only: watch its CPU credits after the move")
	}
	out.Assumed = !known
	return out, nil
}

// maxShards is what ElastiCache has without a raised quota.
const maxShards = 90

// idle is up to which use a class that works above its base for a while only never needs
// more than its base: the smallest of them have a tenth of their cores for good.
func idle(c Class) Milli { return Milli(c.VCPU) * 1000 / 10 }

// idleOperations is how many operations a second a cache of such a class does at its base.
const idleOperations = 5000

// pick is the cheapest class that has so much; of those that work at full speed for a
// while only, one that may.
func pick(prefix string, cpu Milli, memory Bytes, mayBurst func(Class) bool, offered Offered) (Class, error) {
	all, err := offers(prefix, offered)
	if err != nil {
		return Class{}, err
	}
	var best Class
	for _, c := range all {
		if Milli(c.VCPU)*1000 < cpu || c.Memory < memory || c.Burst && !mayBurst(c) {
			continue
		}
		if best.Name == "" || cmp.Or(cmp.Compare(c.weight(), best.weight()), cmp.Compare(c.rank, best.rank)) < 0 {
			best = c
		}
	}
	if best.Name == "" {
		return Class{}, fmt.Errorf("no class has %s cores and %s of memory: split it, or name a class", cpu, memory)
	}
	return best, nil
}

func largest(prefix string, offered Offered) (Class, error) {
	all, err := offers(prefix, offered)
	if err != nil {
		return Class{}, err
	}
	return slices.MaxFunc(all, func(a, b Class) int { return cmp.Compare(a.Memory, b.Memory) }), nil
}
