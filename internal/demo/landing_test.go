package demo

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/landing/double"
	"dhow/internal/mariadbserver"
	"dhow/internal/pgserver"
	"dhow/internal/process"
	"dhow/internal/redisserver"
	"dhow/superapp/fleet"
)

// The ports of the stage's servers, of which none runs: sources, then targets.
const (
	sourcePostgres = 41001 + iota
	sourceMariaDB
	sourceRedis
	targetPostgres
	targetMariaDB
	targetRedis
)

// emptyStage is a stage whose servers do not run.
func emptyStage(t *testing.T) *Stage {
	t.Helper()
	on := func(port int) *process.Server { return &process.Server{Port: port} }
	s := &Stage{cfg: StageConfig{Whole: true, To: 15}, Dir: t.TempDir(), Gate: "127.0.0.1:41000", secrets: fleet.NewSecrets(),
		Source: &pgserver.Server{Server: on(sourcePostgres)}, Target: &pgserver.Server{Server: on(targetPostgres)},
		MariaDB: map[estate.Side]*mariadbserver.Server{estate.Source: {Server: on(sourceMariaDB)}, estate.Target: {Server: on(targetMariaDB)}},
		Redis:   map[estate.Side]*redisserver.Server{estate.Source: {Server: on(sourceRedis)}, estate.Target: {Server: on(targetRedis)}},
		places:  map[estate.Side]Place{}}
	for i, side := range sides {
		p := &processes{side: side, addresses: map[string]string{}}
		for k, one := range fleet.Services() {
			p.addresses[one.Name] = fmt.Sprintf("127.0.0.1:%d", 41100+100*i+k)
		}
		s.places[side] = p
	}
	return s
}

// holdTargets holds that the estate of a stage has the targets at these addresses, and
// the sources where they are.
func holdTargets(t *testing.T, s *Stage, want map[estate.Engine]string) {
	t.Helper()
	if err := s.writeEstate(); err != nil {
		t.Fatal(err)
	}
	e, err := estate.Load(s.EstateFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Databases) != len(s.Databases()) {
		t.Errorf("there are %d databases, want %v", len(e.Databases), s.Databases())
	}
	sources := map[estate.Engine]string{estate.PostgreSQL: "127.0.0.1:41001", estate.MariaDB: "127.0.0.1:41002", estate.Redis: "127.0.0.1:41003"}
	for _, d := range e.Databases {
		if got := net.JoinHostPort(d.Target.Host, strconv.Itoa(d.Target.Port)); got != want[d.Engine] {
			t.Errorf("the target of %s is %s, want %s", d.Name, got, want[d.Engine])
		}
		if got := net.JoinHostPort(d.Source.Host, strconv.Itoa(d.Source.Port)); got != sources[d.Engine] {
			t.Errorf("the source of %s is %s, want %s", d.Name, got, sources[d.Engine])
		}
	}
	if (e.Landing != nil) != (s.Landed != nil) {
		t.Errorf("its landing zone is %v", e.Landing)
	}
	// The pods of the movers read it as the program writes it.
	text, err := e.Text()
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), estate.FileName)
	if err := os.WriteFile(again, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := estate.Load(again); err != nil {
		t.Errorf("as it is written anew it is wrong: %v\n%s", err, text)
	}
}

// elsewhere are addresses that no server of a stage has.
var elsewhere = map[estate.Engine]string{estate.PostgreSQL: "192.0.2.7:6001", estate.MariaDB: "192.0.2.8:6002", estate.Redis: "192.0.2.9:6003"}

// TestEstate: the targets are where the landing zone tells, and without one where they are.
func TestEstate(t *testing.T) {
	s := emptyStage(t)
	holdTargets(t, s, map[estate.Engine]string{estate.PostgreSQL: "127.0.0.1:41004", estate.MariaDB: "127.0.0.1:41005", estate.Redis: "127.0.0.1:41006"})
	s.Landed = &Landed{Servers: elsewhere}
	holdTargets(t, s, elsewhere)
	// A test may stand between, whatever tells the address.
	s.cfg.Address = func(_ estate.Side, _ estate.Engine, server string) string {
		return strings.Replace(server, "192.0.2.", "198.51.100.", 1)
	}
	holdTargets(t, s, map[estate.Engine]string{estate.PostgreSQL: "198.51.100.7:6001", estate.MariaDB: "198.51.100.8:6002", estate.Redis: "198.51.100.9:6003"})
}

// TestLandingSection: the landing zone has the application's services, and what stands in
// the target's place.
func TestLandingSection(t *testing.T) {
	for to, version := range map[int]string{15: "15", 17: "17", 18: ""} {
		s := emptyStage(t)
		s.cfg.To = to
		if err := s.writeLanding(); err != nil {
			t.Fatal(err)
		}
		e, err := estate.Load(s.EstateFile)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Landing.Parameters["postgresql"]["PostgresqlVersion"]; got != version {
			t.Errorf("for %d the version is %q", to, got)
		}
		var names, want []string
		for _, one := range e.Landing.Services {
			names = append(names, one.Name)
		}
		for _, one := range fleet.Services() {
			want = append(want, one.Name)
		}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("the services are %v, want %v", names, want)
		}
	}
}

// TestMade: what of the landing zone is this machine's.
func TestMade(t *testing.T) {
	s := emptyStage(t)
	for _, tt := range []struct{ kind, engine, attribute, want string }{
		{"AWS::RDS::DBInstance", "postgres", "Endpoint.Address", "127.0.0.1"},
		{"AWS::RDS::DBInstance", "postgres", "Endpoint.Port", "41004"},
		{"AWS::RDS::DBInstance", "mariadb", "Endpoint.Port", "41005"},
		{"AWS::ElastiCache::ReplicationGroup", "valkey", "PrimaryEndPoint.Port", "41006"},
		{"AWS::ElastiCache::ServerlessCache", "valkey", "Endpoint.Address", "127.0.0.1"},
		{"AWS::ElastiCache::ServerlessCache", "valkey", "Endpoint.Port", "41006"},
	} {
		made := s.made(double.Resource{Type: tt.kind, Properties: map[string]any{"Engine": tt.engine}})
		if made[tt.attribute] != tt.want {
			t.Errorf("%s of %s %s is %v, want %s", tt.attribute, tt.kind, tt.engine, made[tt.attribute], tt.want)
		}
	}
	repository := double.Resource{Type: "AWS::ECR::Repository", Properties: map[string]any{"RepositoryName": "superapp/dhow"}}
	for _, r := range []double.Resource{repository, {Type: "AWS::EC2::VPC"}} {
		if made := s.made(r); len(made) > 0 {
			t.Errorf("%s is %v", r.Type, made)
		}
	}
	s.cfg.Harbour = &Harbour{docks: map[estate.Side]*dock{estate.Target: {registry: "198.18.0.1:5000"}}}
	if made := s.made(repository); made["RepositoryUri"] != "198.18.0.1:5000/superapp/dhow" {
		t.Errorf("in pods a repository is %v", made)
	}
}

// complete are results with all outputs that are read, but one.
func complete(but string) []landing.Result {
	var results []landing.Result
	for _, r := range []landing.Result{
		{Stack: "main/network", Outputs: map[string]string{"VpcId": "vpc-1"}},
		{Stack: "main/postgresql", Outputs: map[string]string{"PostgresqlEndpoint": "192.0.2.7", "PostgresqlPort": "6001"}},
		{Stack: "main/mariadb", Outputs: map[string]string{"MariadbEndpoint": "192.0.2.8", "MariadbPort": "6002"}},
		{Stack: "main/cache", Outputs: map[string]string{"CacheEndpoint": "192.0.2.9", "CachePort": "6003"}},
		{Stack: "production/registry", Outputs: map[string]string{"RegistryUri": "192.0.2.10:5000"}},
	} {
		delete(r.Outputs, but)
		if r.Stack != but {
			results = append(results, r)
		}
	}
	return results
}

// TestOutputs: the targets are the stacks' outputs, and one that is missing is named.
func TestOutputs(t *testing.T) {
	var d Landed
	if err := d.read(complete("")); err != nil {
		t.Fatal(err)
	}
	for engine, want := range elsewhere {
		if d.Servers[engine] != want {
			t.Errorf("%s is at %s, want %s", engine, d.Servers[engine], want)
		}
	}
	if d.Registry != "192.0.2.10:5000" {
		t.Errorf("images are pulled from %s", d.Registry)
	}
	for but, want := range map[string]string{
		"PostgresqlEndpoint":  "the stack main/postgresql gives no output PostgresqlEndpoint, which tells where postgresql is: its template must have it under Outputs",
		"MariadbPort":         "the stack main/mariadb gives no output MariadbPort, which tells the port of mariadb: its template must have it under Outputs",
		"CacheEndpoint":       "the stack main/cache gives no output CacheEndpoint, which tells where redis is: its template must have it under Outputs",
		"RegistryUri":         "the stack production/registry gives no output RegistryUri, which tells where images are pulled from: its template must have it under Outputs",
		"main/cache":          "the landing zone has no stack main/cache, whose output CacheEndpoint tells where redis is: its template must be deployed",
		"production/registry": "the landing zone has no stack production/registry, whose output RegistryUri tells where images are pulled from: its template must be deployed",
	} {
		if err := new(Landed).read(complete(but)); err == nil || err.Error() != want {
			t.Errorf("without %s it ends with\n%v, want\n%s", but, err, want)
		}
	}
	odd := complete("")
	odd[1].Outputs["PostgresqlPort"] = "0"
	if err := new(Landed).read(odd); err == nil || !strings.Contains(err.Error(), `main/postgresql tells by its output PostgresqlPort that the port of postgresql is "0"`) {
		t.Errorf("a port that is none gives %v", err)
	}
}

// TestPullFrom: images are pulled from where the landing zone tells, as they were pushed.
func TestPullFrom(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	d := &dock{registry: "198.18.0.1:5000", images: map[string]string{"web": "198.18.0.1:5000/superapp/web" + digest}, dhow: "198.18.0.1:5000/dhow" + digest}
	h := &Harbour{docks: map[estate.Side]*dock{estate.Target: d}}
	h.pullFrom("registry.example:443")
	if d.images["web"] != "registry.example:443/superapp/web"+digest || d.dhow != "registry.example:443/dhow"+digest {
		t.Errorf("images are %v and %s", d.images, d.dhow)
	}
}

// TestReportLanding: the report has the landing zone's timeline, for people and programs.
func TestReportLanding(t *testing.T) {
	r := &Report{Began: time.Unix(0, 0).UTC()}
	r.land(&Landed{Stacks: 2, Took: 6200 * time.Millisecond, Timeline: landing.Timeline{Took: 31 * time.Minute, CriticalTook: 30 * time.Minute, Critical: []string{"main/keys", "main/postgresql"},
		Spans: []landing.Span{{Stack: "main/keys", Took: 4 * time.Minute}, {Stack: "main/postgresql", After: 5 * time.Minute, Took: 26 * time.Minute}}}})
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 stacks, deployed in 6.2 s", "<title>main/postgresql: after 5m0s, for 26m0s</title>", "the longest way, which takes 30m0s", "<td>landing zone</td>"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	var read struct {
		LandingS float64           `json:"landing_s"`
		Stacks   int               `json:"stacks"`
		Landing  *landing.Timeline `json:"landing"`
	}
	if text, err = os.ReadFile(filepath.Join(dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &read); err != nil || read.LandingS != 6.2 || read.Stacks != 2 || len(read.Landing.Spans) != 2 {
		t.Errorf("for programs it is %+v, %v", read, err)
	}
	// One without a landing zone has no picture of it.
	if err := (&Report{}).write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "report.html")); err != nil || strings.Contains(string(text), "landing zone") {
		t.Errorf("without a landing zone the report is, %v:\n%s", err, text)
	}
}
