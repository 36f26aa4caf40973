package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/landing/double"
	"dhow/internal/region"
	"dhow/internal/voyage"
)

const (
	// landingSpeed is how many times faster than in AWS the landing zone is made: half an
	// hour takes six seconds, less than the ledger takes to be filled.
	landingSpeed = 300
	// landingPoll is the pause between two looks at a stack, 15 s of AWS's time: ten stacks
	// at once are looked at two hundred times a second, and leave the processors to the servers.
	landingPoll = 50 * time.Millisecond
	// landingBar is the width of a timeline's bar, in characters.
	landingBar = 40
)

// Landed is a landing zone as it was deployed, and what its stacks tell of the target.
type Landed struct {
	// Stacks and Resources are how many it has.
	Stacks, Resources int
	// Took is how long its deployment took here, by the wall's clock.
	Took time.Duration
	// Timeline is by the clock of the double, which is AWS's.
	Timeline landing.Timeline
	// Servers are where the servers of each engine are: host and port.
	Servers map[estate.Engine]string
	// Registry is where images are pulled from: a host, and a port where it has one.
	Registry string
}

// lander deploys landing zones to doubles of AWS.
type lander struct {
	schemas *double.Schemas // nil once it is closed
	speed   float64
	poll    time.Duration
	say     func(format string, args ...any)
}

// newLander opens AWS's resource schemas, which a double reads.
func newLander(ctx context.Context, say func(string, ...any)) (*lander, error) {
	schemas, err := double.OpenSchemas(ctx)
	if err != nil {
		return nil, fmt.Errorf("the demo deploys a landing zone to a double of CloudFormation: %w: run `hack/setup`, which fetches once what the double reads", err)
	}
	return &lander{schemas: schemas, speed: landingSpeed, poll: landingPoll, say: say}, nil
}

// close closes the schemas and gives their memory back, so that what the movers take is
// measured by itself. It may be called again.
func (l *lander) close() error {
	if l.schemas == nil {
		return nil
	}
	err := l.schemas.Close()
	l.schemas = nil
	debug.FreeOSMemory()
	voyage.ForgetPeakRSS()
	return err
}

// land deploys the landing zone of an estate file as `dhow deploy` does, but to a double
// of AWS that runs in this process until it returns, and reads what the stacks tell.
// Attributes are those of the double's resources that are this machine's.
func (l *lander) land(ctx context.Context, file string, attributes func(double.Resource) map[string]any) (*Landed, error) {
	e, err := estate.Load(file)
	if err != nil {
		return nil, err
	}
	library, err := landing.Embedded()
	if err != nil {
		return nil, err
	}
	regions, err := region.Load()
	if err != nil {
		return nil, err
	}
	g, err := landing.New(landing.Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		return nil, err
	}
	if err := hindrance(g.Findings); err != nil {
		return nil, fmt.Errorf("deploy the landing zone: %w", err)
	}
	landed := &Landed{Stacks: len(g.Stacks)}
	places := map[string]bool{}
	for _, s := range g.Stacks {
		landed.Resources += s.Resources
		places[s.Number+" "+s.Region] = true
	}
	l.say("deploying the landing zone to a double of CloudFormation: %d stacks with %d resources in %d places, in AWS's time %g times as fast", landed.Stacks, landed.Resources, len(places), l.speed)
	began := time.Now()
	r, err := landing.Rehearse(ctx, g.Stacks, landing.RehearsalOptions{Graph: g, Regions: regions, Speed: l.speed, Poll: l.poll, Schemas: l.schemas, Attributes: attributes, Report: l.follow(landed.Stacks)})
	if err != nil {
		return nil, fmt.Errorf("deploy the landing zone: %w", err)
	}
	if err := errors.Join(hindrance(r.Findings), landing.Err(r.Results)); err != nil {
		return nil, fmt.Errorf("deploy the landing zone: %w", err)
	}
	landed.Took, landed.Timeline = time.Since(began), r.Timeline
	if err := landed.read(r.Results); err != nil {
		return nil, err
	}
	l.draw(landed)
	return landed, nil
}

// hindrance is the first finding that keeps a landing zone from being deployed, as an error.
func hindrance(findings []landing.Finding) error {
	for _, f := range findings {
		switch {
		case f.Severity != landing.SeverityError:
		case f.Fix == "":
			return fmt.Errorf("%s: %s", f.Where, f.Text)
		default:
			return fmt.Errorf("%s: %s: %s", f.Where, f.Text, f.Fix)
		}
	}
	return nil
}

// follow says now and then how many of the stacks stand.
func (l *lander) follow(all int) func(landing.Event) {
	stand, said := 0, time.Now()
	return func(e landing.Event) {
		if e.Status != landing.OutcomeCreated {
			return
		}
		if stand++; time.Since(said) >= tellEvery && stand < all {
			said = time.Now()
			l.say("landing zone: %d of %d stacks stand", stand, all)
		}
	}
}

// draw says how long the landing zone took, with the timeline of its longest way and of
// the stacks of which the targets are taken.
func (l *lander) draw(d *Landed) {
	l.say("landing zone: %d stacks stand after %.1f s, or %s of AWS's time, of which the longest way takes %s:", d.Stacks, d.Took.Seconds(), d.Timeline.Took.Round(time.Second), d.Timeline.CriticalTook.Round(time.Second))
	width := 0
	shown := slices.DeleteFunc(slices.Clone(d.Timeline.Spans), func(s landing.Span) bool { return !slices.Contains(d.Timeline.Critical, s.Stack) && !tells(s.Stack) })
	for _, s := range shown {
		width = max(width, len(s.Stack))
	}
	for _, s := range shown {
		l.say("  %-*s %7s %7s  %s", width, s.Stack, s.After.Round(time.Second), s.Took.Round(time.Second), d.Timeline.Bar(s, landingBar))
	}
	l.say("the targets are what the stacks tell: postgresql at %s, mariadb at %s, redis at %s, images at %s", d.Servers[estate.PostgreSQL], d.Servers[estate.MariaDB], d.Servers[estate.Redis], d.Registry)
}

// told are the outputs that tell where the servers of an engine are.
var told = []struct {
	engine     estate.Engine
	stack      string
	host, port string // outputs
}{
	{estate.PostgreSQL, "main/postgresql", "PostgresqlEndpoint", "PostgresqlPort"},
	{estate.MariaDB, "main/mariadb", "MariadbEndpoint", "MariadbPort"},
	{estate.Redis, "main/cache", "CacheEndpoint", "CachePort"},
}

// registryStack and registryOutput tell where images are pulled from.
const registryStack, registryOutput = "production/registry", "RegistryUri"

// tells says whether a stack is one of those of which the targets are taken.
func tells(stack string) bool {
	if stack == registryStack {
		return true
	}
	for _, t := range told {
		if t.stack == stack {
			return true
		}
	}
	return false
}

// read takes the targets of what the stacks tell. An output that is not there, or that is
// no address, is an error that names it.
func (d *Landed) read(results []landing.Result) (err error) {
	d.Servers = map[estate.Engine]string{}
	for _, t := range told {
		host, err := output(results, t.stack, t.host, "where "+string(t.engine)+" is")
		if err != nil {
			return err
		}
		port, err := output(results, t.stack, t.port, "the port of "+string(t.engine))
		if err != nil {
			return err
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("the stack %s tells by its output %s that the port of %s is %q: want a number from 1 to 65535", t.stack, t.port, t.engine, port)
		}
		d.Servers[t.engine] = net.JoinHostPort(host, port)
	}
	d.Registry, err = output(results, registryStack, registryOutput, "where images are pulled from")
	return err
}

// output is what a stack tells.
func output(results []landing.Result, stack, name, what string) (string, error) {
	for _, r := range results {
		if r.Stack != stack {
			continue
		}
		if v := r.Outputs[name]; v != "" {
			return v, nil
		}
		return "", fmt.Errorf("the stack %s gives no output %s, which tells %s: its template must have it under Outputs", stack, name, what)
	}
	return "", fmt.Errorf("the landing zone has no stack %s, whose output %s tells %s: its template must be deployed", stack, name, what)
}

// made are the attributes that resources of the landing zone have on this machine: where
// the target's servers are, and its registry. The double gives them out as AWS does those
// of what it makes; the estate file has them from there.
func (s *Stage) made(r double.Resource) map[string]any {
	host := s.places[estate.Target].Host()
	port := func(of estate.Engine) string {
		for _, one := range s.servers() {
			if one.engine == of && one.side == estate.Target {
				return strconv.Itoa(one.port)
			}
		}
		return ""
	}
	switch r.Type {
	case "AWS::RDS::DBInstance":
		of := estate.PostgreSQL
		if r.Properties["Engine"] == string(estate.MariaDB) {
			of = estate.MariaDB
		}
		return map[string]any{"Endpoint.Address": host, "Endpoint.Port": port(of)}
	case "AWS::ElastiCache::ReplicationGroup":
		return map[string]any{"PrimaryEndPoint.Address": host, "PrimaryEndPoint.Port": port(estate.Redis), "ReaderEndPoint.Address": host, "ReaderEndPoint.Port": port(estate.Redis)}
	case "AWS::ElastiCache::ServerlessCache":
		return map[string]any{"Endpoint.Address": host, "Endpoint.Port": port(estate.Redis), "ReaderEndpoint.Address": host, "ReaderEndpoint.Port": port(estate.Redis)}
	case "AWS::ECR::Repository":
		if h := s.cfg.Harbour; h != nil { // without pods there are no images
			return map[string]any{"RepositoryUri": fmt.Sprintf("%s/%s", h.docks[estate.Target].registry, r.Properties["RepositoryName"])}
		}
	}
	return nil
}
