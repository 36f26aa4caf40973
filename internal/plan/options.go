package plan

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"dhow/internal/price"
	"dhow/internal/region"
	"dhow/internal/window"
)

const (
	// maxOptions bounds a file of options, in bytes: it is written by hand.
	maxOptions = 1 << 20
	// maxReplicas bounds what a file may ask for as the least number of pods.
	maxReplicas = 100
	// weekHours are the hours of a week.
	weekHours = 168
	// maxZones is how many zones a network is cut for at most.
	maxZones = 4
	// maxPort is the last port.
	maxPort = 65535
	// other names what holds for every workload that is not named itself.
	other = "default"
)

//go:embed defaults.yaml
var defaults []byte

// Options say what is wanted of a plan. ParseOptions fills in the defaults; the zero
// value is that of a file that says nothing.
type Options struct {
	// Name names the plan, its estate and what is made of it; the namespace of most
	// workloads where it is empty.
	Name    string       `json:"name,omitempty"`
	Regions RegionChoice `json:"regions,omitempty"`
	// Users are the weights of the users' countries, Residency the countries and blocs
	// that data may lie in: see region.Question.
	Users     map[string]float64 `json:"users,omitempty"`
	Residency []string           `json:"residency,omitempty"`
	// Accounts are the twelve digits of each account, "" where they are not known yet.
	Accounts map[string]string `json:"accounts,omitempty"`
	// Placement is by the name of a workload, or NAMESPACE/NAME, or default.
	Placement map[string]Place `json:"placement,omitempty"`
	// Probes are paths that the services answer, by the name of a workload, or default.
	Probes map[string]Paths `json:"probes,omitempty"`
	// Replace are texts in arguments and plain variables, and what stands there instead.
	Replace map[string]string `json:"replace,omitempty"`
	// Images are what runs, by digest, by the name of a workload or the source's image.
	Images map[string]string `json:"images,omitempty"`
	// Hosts are by the name of a workload that users reach; Domain is the one below
	// which names of the inside are made.
	Hosts     map[string][]string `json:"hosts,omitempty"`
	Domain    string              `json:"domain,omitempty"`
	Network   NetworkChoice       `json:"network,omitempty"`
	Databases map[string]Facts    `json:"databases,omitempty"`
	Goals     Goals               `json:"goals,omitempty"`
	// Calls are those that no setting tells, by the name of who calls.
	Calls map[string][]string `json:"calls,omitempty"`
	// Traffic is what is known of requests, by the name of a workload, or default.
	Traffic map[string]Traffic `json:"traffic,omitempty"`

	// Exposures says that the cluster has the operator: the manifests then hold Exposures, of
	// which it makes Services, routes, budgets, scaling and who may call, in place of those.
	Exposures bool `json:"exposures,omitempty"`

	// Instead are regions that take the place of those chosen, by --region.
	Instead []Instead `json:"-"`
	// Prices are what things cost; nil means the list in the binary.
	Prices *price.List `json:"-"`
	// Window is the quietest moment, and History where it was read from; nil means that
	// no history was given.
	Window  *window.Plan `json:"-"`
	History string       `json:"-"`
}

// RegionChoice are the regions that are wanted.
type RegionChoice struct {
	Primary string `json:"primary,omitempty"`
	DR      string `json:"dr,omitempty"`
	// Without are regions that no alternative may be.
	Without []string `json:"without,omitempty"`
}

// Paths are those of health checks over HTTP.
type Paths struct {
	Readiness string `json:"readiness,omitempty"`
	Liveness  string `json:"liveness,omitempty"`
}

// NetworkChoice says where networks may lie.
type NetworkChoice struct {
	// Pools are where networks are taken from, in order, Services those of clusters'
	// own Services; Taken are networks that must be left free.
	Pools    []netip.Prefix `json:"pools,omitempty"`
	Services []netip.Prefix `json:"services,omitempty"`
	Taken    []netip.Prefix `json:"taken,omitempty"`
	// Edge and Stores are where load balancers and databases stand, for the policies of
	// a cluster that is in none of the plan's networks.
	Edge   netip.Prefix `json:"edge,omitzero"`
	Stores netip.Prefix `json:"stores,omitzero"`
}

// Facts are what is known of a database server, by its name in the plan.
type Facts struct {
	Version string `json:"version,omitempty"`
	// SizeGiB is how much it holds; Cores and MemoryGiB what it runs on; Connections
	// how many it has at most.
	SizeGiB     float64 `json:"size_gib,omitempty"`
	Cores       float64 `json:"cores,omitempty"`
	MemoryGiB   float64 `json:"memory_gib,omitempty"`
	Connections int     `json:"connections,omitempty"`
	// Port is where the new server listens; where the old one does if it is 0.
	Port int `json:"port,omitempty"`
}

// Traffic is what is known of a service's requests.
type Traffic struct {
	// RequestsPerSecond is the peak of a minute; the times are what the service takes, in milliseconds.
	RequestsPerSecond float64 `json:"requests_per_second,omitempty"`
	P50Ms             float64 `json:"p50_ms,omitempty"`
	P99Ms             float64 `json:"p99_ms,omitempty"`
	LongestMs         float64 `json:"longest_ms,omitempty"`
}

// Goals are what the plan must meet.
type Goals struct {
	Replicas int32 `json:"replicas,omitempty"`
	// MostReplicas is how many pods of a service an autoscaler may make, for a cluster with
	// no room for more; 0 leaves it to the load.
	MostReplicas int32 `json:"most_replicas,omitempty"`
	Zones        int   `json:"zones,omitempty"`
	// NonproductionHours is how many hours of a week non-production is worked with, 168 for all.
	NonproductionHours int `json:"nonproduction_hours,omitempty"`
	// CommitYears is for how long one would commit to what one uses: 0, 1 or 3.
	CommitYears int `json:"commit_years,omitempty"`
	// ARM says that every image runs on 64-bit ARM too.
	ARM bool `json:"arm,omitempty"`
}

// Instead is a region that takes another's place.
type Instead struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// InvalidError is what is wrong with options, a line each.
type InvalidError struct{ Problems []string }

func (e *InvalidError) Error() string { return strings.Join(e.Problems, "\n") }

// ReadOptions reads a file of options; "" gives the defaults. An *InvalidError names the
// lines that are wrong.
func ReadOptions(file string) (*Options, error) {
	if file == "" {
		return ParseOptions("", nil)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the options: %w", err)
	}
	if info.Size() > maxOptions {
		return nil, &InvalidError{[]string{fmt.Sprintf("%s is larger than %d bytes, which no file of options is: name another", file, maxOptions)}}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the options: %w", err)
	}
	return ParseOptions(file, text)
}

// ParseOptions reads what ReadOptions does from a text, and fills in the defaults; file
// is for the errors.
func ParseOptions(file string, text []byte) (*Options, error) {
	standard, err := decode("defaults.yaml", defaults)
	if err != nil {
		return nil, fmt.Errorf("read the defaults of the binary: %w", err)
	}
	o, err := decode(file, text)
	if err != nil {
		return nil, err
	}
	if err := o.check(file, text); err != nil {
		return nil, err
	}
	o.fill(standard)
	return o, nil
}

func decode(file string, text []byte) (*Options, error) {
	var o Options
	err := yaml.UnmarshalWithOptions(text, &o, yaml.Strict(), yaml.DisallowUnknownField())
	if err == nil || len(text) == 0 {
		return &o, nil
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return nil, &InvalidError{[]string{fmt.Sprintf("%s:%d: %s", file, at.GetToken().Position.Line, at.GetMessage())}}
	}
	if err := checkPrefixes(file, text); err != nil { // its own error names no line
		return nil, err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return nil, &InvalidError{[]string{file + ": " + first}}
}

// checkPrefixes says which networks of a file are none, nil where all are.
func checkPrefixes(file string, text []byte) error {
	var f struct {
		Network map[string]any `json:"network"`
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		return nil //nolint:nilerr // told by who asks
	}
	c := &checker{file: file, text: text}
	check := func(path string, v any) {
		if _, err := netip.ParsePrefix(fmt.Sprint(v)); err != nil {
			c.wrong(path, "%.40q is no network: want it as 10.64.0.0/16", fmt.Sprint(v))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Network)) {
		if list, ok := f.Network[key].([]any); ok {
			for i, v := range list {
				check(fmt.Sprintf("network.%s[%d]", key, i), v)
			}
			continue
		}
		check("network."+key, f.Network[key])
	}
	return c.err()
}

// fill takes what is not said from the defaults.
func (o *Options) fill(d *Options) {
	if o.Regions.Primary == "" {
		o.Regions.Primary = d.Regions.Primary
		if o.Regions.DR == "" {
			o.Regions.DR = d.Regions.DR
		}
	}
	if len(o.Users) == 0 {
		o.Users = d.Users
	}
	accounts := maps.Clone(d.Accounts)
	maps.Copy(accounts, o.Accounts)
	o.Accounts = accounts
	if len(o.Network.Pools) == 0 {
		o.Network.Pools = d.Network.Pools
	}
	if len(o.Network.Services) == 0 {
		o.Network.Services = d.Network.Services
	}
	if o.Goals.Replicas == 0 {
		o.Goals.Replicas = d.Goals.Replicas
	}
	if o.Goals.Zones == 0 {
		o.Goals.Zones = d.Goals.Zones
	}
	if o.Goals.NonproductionHours == 0 {
		o.Goals.NonproductionHours = d.Goals.NonproductionHours
	}
}

// The forms of what options may say.
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	nameForm    = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	hostForm    = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	pathForm    = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()+,;=:@/-]*$`)
	digestForm  = regexp.MustCompile(`^[^\s@]+@sha256:[0-9a-f]{64}$`)
)

// CheckAccount says what is wrong with an account's name and number, nil where nothing is.
func CheckAccount(name, number string) error {
	switch {
	case !slices.Contains(accountNames, name):
		return fmt.Errorf("there is no account %q: want %s", name, strings.Join(accountNames, ", "))
	case !accountForm.MatchString(number):
		return fmt.Errorf("%q is no account's number: want its twelve digits", number)
	}
	return nil
}

// check says what is wrong with the values of a file, each with its line.
func (o *Options) check(file string, text []byte) error {
	c := &checker{file: file, text: text}
	if o.Name != "" && !nameForm.MatchString(o.Name) {
		c.wrong("name", "%q is no name here: want small letters, digits and -, at most 40, beginning with a letter", o.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Accounts)) {
		if id := o.Accounts[name]; id != "" {
			if err := CheckAccount(name, id); err != nil {
				c.wrong("accounts."+name, "%s, in quotes", err)
			}
		} else if !slices.Contains(accountNames, name) {
			c.wrong("accounts."+name, "there is no account %q: want %s", name, strings.Join(accountNames, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Placement)) {
		if p := o.Placement[name]; !slices.Contains(Places(), p) {
			c.wrong("placement."+name, "%q is no place: want one of %v", p, Places())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Probes)) {
		for _, p := range []string{o.Probes[name].Readiness, o.Probes[name].Liveness} {
			if p != "" && !pathForm.MatchString(p) {
				c.wrong("probes."+name, "%q is no path: want one that begins with a slash, without a query", p)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Images)) {
		if !digestForm.MatchString(o.Images[name]) {
			c.wrong("images."+name, "%q does not say which image: want NAME@sha256: and 64 hexadecimal digits", o.Images[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Hosts)) {
		for _, h := range o.Hosts[name] {
			if !hostForm.MatchString(h) {
				c.wrong("hosts."+name, "%q is no host: want a name such as www.example.com in small letters", h)
			}
		}
	}
	if o.Domain != "" && (!hostForm.MatchString(o.Domain) || strings.HasPrefix(o.Domain, "*")) {
		c.wrong("domain", "%q is no domain: want a name such as example.com in small letters", o.Domain)
	}
	o.Network.check(c)
	o.checkFacts(c)
	return c.err()
}

func (n *NetworkChoice) check(c *checker) {
	for _, list := range []struct {
		path string
		all  []netip.Prefix
	}{{"network.pools", n.Pools}, {"network.services", n.Services}, {"network.taken", n.Taken}} {
		for i, p := range list.all {
			if !p.Addr().Is4() || p != p.Masked() {
				c.wrong(fmt.Sprintf("%s[%d]", list.path, i), "%s is no network of IPv4: want its first address, as 10.64.0.0/10", p)
			}
		}
	}
	for i, p := range n.Pools {
		if p.Addr().Is4() && p.Bits() > networkBits {
			c.wrong(fmt.Sprintf("network.pools[%d]", i), "%s is smaller than one network: want a /%d or larger", p, networkBits)
		}
	}
	for path, p := range map[string]netip.Prefix{"network.edge": n.Edge, "network.stores": n.Stores} {
		if p.IsValid() && p != p.Masked() {
			c.wrong(path, "%s is no network: want its first address, as 10.64.192.0/20", p)
		}
	}
}

func (o *Options) checkFacts(c *checker) {
	for _, name := range slices.Sorted(maps.Keys(o.Databases)) {
		f := o.Databases[name]
		if !(f.SizeGiB >= 0 && f.SizeGiB <= 65536) || !(f.Cores >= 0 && f.Cores <= 1024) || !(f.MemoryGiB >= 0 && f.MemoryGiB <= 32768) || f.Connections < 0 {
			c.wrong("databases."+name, "a number is out of range: want sizes that are not negative, at most 65536 GiB, 1024 cores and 32768 GiB of memory")
		}
		if f.Port < 0 || f.Port > maxPort {
			c.wrong("databases."+name+".port", "%d is no port: want 1 to %d", f.Port, maxPort)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Traffic)) {
		t := o.Traffic[name]
		if !(t.RequestsPerSecond >= 0 && t.RequestsPerSecond <= 1e7) || !(t.P50Ms >= 0 && t.P50Ms <= 1e7) || !(t.P99Ms >= 0 && t.P99Ms <= 1e7) || !(t.LongestMs >= 0 && t.LongestMs <= 1e7) {
			c.wrong("traffic."+name, "a number is out of range: want 0 to 10000000")
		}
		if t.P99Ms > 0 && t.P50Ms > t.P99Ms {
			c.wrong("traffic."+name, "p50_ms is longer than p99_ms: correct one of them")
		}
	}
	if g := o.Goals.Replicas; g < 0 || g > maxReplicas {
		c.wrong("goals.replicas", "%d is out of range: want 1 to %d", g, maxReplicas)
	}
	if g := o.Goals.MostReplicas; g < 0 || g > 0 && g < o.Goals.Replicas {
		c.wrong("goals.most_replicas", "%d is out of range: want goals.replicas or more", g)
	}
	if g := o.Goals.Zones; g < 0 || g > maxZones {
		c.wrong("goals.zones", "%d is out of range: want 1 to %d", g, maxZones)
	}
	if h := o.Goals.NonproductionHours; h < 0 || h > weekHours {
		c.wrong("goals.nonproduction_hours", "%d is out of range: want 1 to %d", h, weekHours)
	}
	if y := o.Goals.CommitYears; y != 0 && y != 1 && y != 3 {
		c.wrong("goals.commit_years", "%d is no term that AWS has: want 0, 1 or 3", y)
	}
	catalog, err := region.Load()
	if err != nil {
		c.problems = append(c.problems, err.Error())
		return
	}
	for path, name := range map[string]string{"regions.primary": o.Regions.Primary, "regions.dr": o.Regions.DR} {
		if _, err := catalog.Lookup(name); name != "" && err != nil {
			c.wrong(path, "%s", err)
		}
	}
	if o.Regions.Primary != "" && o.Regions.Primary == o.Regions.DR {
		c.wrong("regions.dr", "%s is the primary region too: one disaster would take both", o.Regions.DR)
	}
	if _, err := catalog.Rank(region.Question{Users: o.Users, Residency: o.Residency, Without: o.Regions.Without}); err != nil {
		c.wrong("users", "%s", err)
	}
}

// checker gathers what is wrong, with lines.
type checker struct {
	file     string
	text     []byte
	problems []string
}

func (c *checker) wrong(path, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%s: %s: %s", c.at(path), path, fmt.Sprintf(format, args...)))
}

// at is where a key stands: its line, or the file alone where it is not found.
func (c *checker) at(path string) string {
	file, err := parser.ParseBytes(c.text, 0)
	if err != nil {
		return c.file
	}
	for ; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		p, err := yaml.PathString("$." + path)
		if err != nil {
			continue
		}
		if node, err := p.FilterFile(file); err == nil && node != nil {
			return fmt.Sprintf("%s:%d", c.file, node.GetToken().Position.Line)
		}
	}
	return c.file
}

func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.Sort(c.problems)
	return &InvalidError{c.problems}
}
