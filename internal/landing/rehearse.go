package landing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"dhow/internal/estate"
	"dhow/internal/landing/double"
	"dhow/internal/region"
)

const (
	// DefaultRehearsalSpeed is how many times faster than in AWS a rehearsal runs: an hour
	// takes 18 seconds, and what the deployer itself takes weighs little yet.
	DefaultRehearsalSpeed = 200
	// leastPoll bounds how often a rehearsed stack is looked at.
	leastPoll = 5 * time.Millisecond
	// rehearser is the user of the management account that rehearses.
	rehearser = "rehearsal"
)

// RehearsalOptions are how a rehearsal runs.
type RehearsalOptions struct {
	Graph   *Graph
	Regions *region.Catalog
	// Speed is how many times faster than in AWS; 0 is DefaultRehearsalSpeed.
	Speed float64
	// Parallel is as a Deployer's.
	Parallel int
	// Poll is the pause between two looks at a stack, of the wall's time; 0 is DefaultPoll
	// as many times shorter as time is faster, which keeps two processors busy.
	Poll time.Duration
	// Schemas are AWS's; nil: they are opened, and closed in the end.
	Schemas *double.Schemas
	// Attributes are those of the double's resources that are others than their schemas
	// let one expect, as double.Options has them; nil: there are none.
	Attributes func(double.Resource) map[string]any
	// Report is as a Deployer's.
	Report func(Event)
}

// Rehearsal is what became of a landing zone that was deployed to a double of AWS.
type Rehearsal struct {
	Findings []Finding `json:"findings"`
	Results  []Result  `json:"results"`
	Timeline Timeline  `json:"timeline"`
}

// Complete fills in what a rehearsal needs and an estate need not tell yet: numbers for
// accounts that are still to be made. It changes the estate.
func Complete(l *estate.Landing) {
	a := &l.Accounts
	for i, number := range []*string{&a.Management, &a.Security, &a.NonProduction, &a.Production} {
		if *number == "" {
			*number = fmt.Sprintf("99999999990%d", i)
		}
	}
}

// Rehearse deploys stacks to a double of AWS that runs in this process: every template
// is checked as AWS would check it and takes about as long as there. AWS itself is not
// asked. What would fail is in the results; the error is of the rehearsal itself. The
// double reads AWS's resource schemas, which are fetched when they are not here yet.
func Rehearse(ctx context.Context, meant []*Stack, o RehearsalOptions) (*Rehearsal, error) {
	if o.Speed <= 0 {
		o.Speed = DefaultRehearsalSpeed
	}
	if o.Poll <= 0 {
		o.Poll = max(leastPoll, time.Duration(float64(DefaultPoll)/o.Speed))
	}
	key, secret := rand.Text(), rand.Text()
	l := o.Graph.landing
	externalID := ""
	if !l.Role.ExternalID.IsZero() {
		externalID = rand.Text()
	}
	d, err := double.New(double.Options{Accounts: o.Graph.rehearsed(key, secret, externalID), Speed: o.Speed, Schemas: o.Schemas, Attributes: o.Attributes}) //nolint:contextcheck // its clock runs until Close, below
	if err != nil {
		return nil, fmt.Errorf("begin the rehearsal: %w", err)
	}
	defer func() { _ = d.Close() }() // it only reads
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("begin the rehearsal: %w", err)
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- d.Serve(serving, listener) }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns // all calls are to one host
	defer func() {
		transport.CloseIdleConnections() // a server waits a while for those that were never used
		stop()
		<-served //nolint:errcheck // how it ended is of no use any more
	}()

	deployer := NewDeployer(DeployerOptions{
		Graph: o.Graph, ExternalID: externalID, Parallel: o.Parallel, Report: o.Report,
		Poll: o.Poll,
		AWS:  aws.Config{Region: l.Regions.Home, BaseEndpoint: aws.String("http://" + listener.Addr().String()), HTTPClient: &http.Client{Transport: transport}, Credentials: credentials.NewStaticCredentialsProvider(key, secret, "")},
	})
	var r Rehearsal
	if r.Findings, err = deployer.Preflight(ctx, meant, o.Regions); err != nil {
		return nil, rehearsing(err, served)
	}
	if Failed(r.Findings) {
		return &r, nil
	}
	began := d.Now()
	r.Results, err = deployer.Apply(ctx, meant)
	if err != nil && r.Results == nil {
		return nil, rehearsing(err, served)
	}
	r.Timeline = NewTimeline(o.Graph, r.Results, d.Now().Sub(began))
	return &r, ctx.Err()
}

// rehearsing is an error of a rehearsal, with why the double ended where it did.
func rehearsing(err error, served chan error) error {
	select {
	case why := <-served:
		served <- nil
		return errors.Join(why, err)
	default:
		return err
	}
}

// rehearsed are the accounts of a graph as its double knows them.
func (g *Graph) rehearsed(key, secret, externalID string) []double.Account {
	l := g.landing
	var list []double.Account
	for _, a := range accounts {
		number := l.Accounts.Number(a)
		if number == "" || slices.ContainsFunc(list, func(d double.Account) bool { return d.ID == number }) {
			continue
		}
		one := double.Account{ID: number, Regions: g.regions()}
		if a == estate.Management {
			one.Keys = []double.Key{{ID: key, Secret: secret, User: rehearser}}
		}
		if l.Role.Name != "" {
			one.Roles = []double.Role{{Name: l.Role.Name, ExternalID: externalID}}
		}
		list = append(list, one)
	}
	return list
}
