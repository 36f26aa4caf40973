package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/landing/double"
	"dhow/internal/mariadbserver"
	"dhow/internal/pgserver"
	"dhow/internal/process"
	"dhow/internal/redisserver"
	"dhow/superapp/fleet"
)

// Stage is everything around a move on one machine: two PostgreSQL servers, the
// application's services on both sides, the gate before them and the traffic; for
// the whole application also two MariaDB and two Redis servers. It moves nothing;
// the demo and the tests do that, with the estate file that the stage writes. Close
// stops all that it started.
type Stage struct {
	cfg StageConfig
	// Dir holds the estate file, the logs and the history.
	Dir            string
	Source, Target *pgserver.Server
	// EstateFile is the dhow.yaml of the move.
	EstateFile string
	// Gate is the address that clients use.
	Gate string
	// Landed is what the landing zone's stacks tell; nil where none was deployed.
	Landed *Landed

	// MariaDB and Redis are empty unless the application is whole.
	MariaDB map[estate.Side]*mariadbserver.Server
	Redis   map[estate.Side]*redisserver.Server

	secrets fleet.Secrets
	places  map[estate.Side]Place
	running map[string]*process.Process
	ports   []*process.Port // kept until Close
}

// Place is where a side's services run.
type Place interface {
	// Host is the address of this machine by which the services reach its servers.
	Host() string
	// Address is where clients reach a service: host and port.
	Address(service string) string
	// Route is where the gate reaches a service.
	Route(service string) string
	// Start starts the services and returns once they answer.
	Start(ctx context.Context, services []fleet.Service, stores fleet.Stores) error
	// Stop ends them, also when they were not started. It may be called again.
	Stop() error
}

// StageConfig says what to set up.
type StageConfig struct {
	// Dir is an empty folder or one that does not exist.
	Dir string
	// Dhow and Superapp are the programs.
	Dhow, Superapp string
	// From and To are the servers' major versions.
	From, To int
	// Accounts and Entries are what the ledger holds at the start.
	Accounts, Entries int
	// Whole starts all of the application's services; otherwise the ledger and the
	// payments alone, which take less of the machine.
	Whole bool
	// Places are where the services of each side run; nil means as processes.
	Places map[estate.Side]Place
	// Harbour runs the gate, and the movers with it, in the pods of the target's
	// cluster; nil runs the gate as a process.
	Harbour *Harbour
	// Land deploys the landing zone of an estate file while the ledger is filled.
	// Attributes are those that its resources have on this machine; where the target is
	// found is what it returns then. nil: there is none, and the target is where it is.
	Land func(ctx context.Context, file string, attributes func(double.Resource) map[string]any) (*Landed, error)
	// SourceSettings and TargetSettings override the servers' settings.
	SourceSettings, TargetSettings map[string]string
	// TargetDir is the folder of the target's cluster; empty means a temporary one.
	TargetDir string
	// Address replaces a server's address in the estate file, for a test that stands
	// between dhow and a server. It is called once the servers run; nil replaces none.
	Address func(side estate.Side, engine estate.Engine, server string) string
	// StallBudget, HoldTime and RowsPerSecond are the estate's; 0 means the defaults.
	StallBudget, HoldTime time.Duration
	RowsPerSecond         int
	Copies, Lanes         int
	// Quick leaves out the comparison before each cutover; the proof behind it stays.
	Quick bool
}

const (
	// pool is a service's connections: enough for the demo's rate, and few that meet
	// a server for the first time when the traffic comes.
	pool = 8
	// processStop bounds the graceful end of a process.
	processStop = 15 * time.Second
	// seedTimeout bounds the filling of the ledger.
	seedTimeout = 10 * time.Minute
)

// mariadbSettings differ in the domain of what each server writes by itself, as two
// primaries of one replication should; the stream then finds no stranger in its own.
var mariadbSettings = map[estate.Side]map[string]string{
	estate.Source: {"gtid_domain_id": "1", "event_scheduler": "ON"},
	estate.Target: {"gtid_domain_id": "2", "event_scheduler": "ON"},
}

// redisSettings keep enough of the changes for a stream that was cut off for a while.
var redisSettings = map[string]string{"repl-backlog-size": "32mb"}

// loopback is where everything listens that is for this machine alone.
const loopback = "127.0.0.1"

// sides in the order in which they serve.
var sides = []estate.Side{estate.Source, estate.Target}

// NewStage sets up the servers, the schema, the ledger and the source's
// services; the gate, the target's services and the traffic are started apart.
func NewStage(ctx context.Context, cfg StageConfig) (_ *Stage, err error) {
	s := &Stage{cfg: cfg, places: cfg.Places, running: map[string]*process.Process{}, secrets: fleet.NewSecrets(),
		MariaDB: map[estate.Side]*mariadbserver.Server{}, Redis: map[estate.Side]*redisserver.Server{}}
	if s.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("find the folder %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the stage's folder: %w", err)
	}
	defer func() { //nolint:contextcheck // also when ctx has ended
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	if err := s.startServers(ctx); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.writeEstate(); err != nil {
		return nil, err
	}
	return s, s.StartServices(ctx, estate.Source)
}

// services are the application's, as far as they are on the stage.
func (s *Stage) services() []fleet.Service {
	all := fleet.Services()
	if s.cfg.Whole {
		return all
	}
	return slices.DeleteFunc(all, func(one fleet.Service) bool { return one.Name != fleet.Accounts && one.Name != fleet.Payments })
}

// databases are those that move.
func (s *Stage) databases() []string {
	var names []string
	for _, one := range s.services() {
		if one.Database == fleet.Postgres {
			names = append(names, one.Name)
		}
	}
	return names
}

// choosePorts reserves the ports that the estate file must name before their owners run.
func (s *Stage) choosePorts() error {
	if h := s.cfg.Harbour; h != nil {
		s.Gate = h.gateAddress()
		return nil
	}
	var err error
	if s.Gate, err = s.reserve(); err != nil {
		return err
	}
	if s.places != nil {
		return nil
	}
	s.places = map[estate.Side]Place{}
	for _, side := range sides {
		p := &processes{side: side, dir: s.Dir, superapp: s.cfg.Superapp, addresses: map[string]string{}, running: map[string]*process.Process{}}
		for _, one := range s.services() {
			if p.addresses[one.Name], err = s.reserve(); err != nil {
				return err
			}
		}
		s.places[side] = p
	}
	return nil
}

// reserve keeps a port of the loopback address until Close.
func (s *Stage) reserve() (address string, err error) {
	p, err := process.ReservePort()
	if err != nil {
		return "", err
	}
	s.ports = append(s.ports, p)
	return p.On(loopback), nil
}

func (s *Stage) startServers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range []struct {
		side     estate.Side
		into     **pgserver.Server
		version  int
		dir      string
		settings map[string]string
	}{{estate.Source, &s.Source, s.cfg.From, "", s.cfg.SourceSettings}, {estate.Target, &s.Target, s.cfg.To, s.cfg.TargetDir, s.cfg.TargetSettings}} {
		g.Go(func() error {
			server, err := pgserver.Start(ctx, pgserver.Options{Version: one.version, Dir: one.dir, Settings: one.settings, Listen: s.listen(one.side)})
			if err != nil {
				return err
			}
			*one.into = server
			return fleet.PreparePostgres(ctx, server, s.secrets, s.databases())
		})
	}
	if !s.cfg.Whole {
		return g.Wait()
	}
	var mu sync.Mutex // of the maps
	for _, side := range sides {
		g.Go(func() error {
			server, err := mariadbserver.Start(ctx, mariadbserver.Options{Listen: s.listen(side), Settings: mariadbSettings[side]})
			if err != nil {
				return err
			}
			mu.Lock()
			s.MariaDB[side] = server
			mu.Unlock()
			return fleet.PrepareMariaDB(ctx, server, s.secrets)
		})
		g.Go(func() error {
			server, err := redisserver.Start(ctx, redisserver.Options{Listen: s.listen(side), Password: s.secrets.Redis, Settings: redisSettings})
			mu.Lock()
			s.Redis[side] = server
			mu.Unlock()
			return err
		})
	}
	return g.Wait()
}

// listen is the address that servers need besides loopback, for a side's services.
func (s *Stage) listen(side estate.Side) string {
	if host := s.places[side].Host(); host != loopback {
		return host
	}
	return ""
}

// Stores are where a side's services find their state, as this machine's own programs reach them.
func (s *Stage) Stores(side estate.Side) fleet.Stores {
	return s.stores(side, func(_ estate.Engine, port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) })
}

// stores are where a side's services find their state, with what says where a server is.
func (s *Stage) stores(side estate.Side, at func(engine estate.Engine, port int) string) fleet.Stores {
	st := fleet.Stores{Secrets: s.secrets, Postgres: at(estate.PostgreSQL, s.Server(side).Port)}
	if s.cfg.Whole {
		st.MariaDB = at(estate.MariaDB, s.MariaDB[side].Port)
		st.Redis = at(estate.Redis, s.Redis[side].Port)
	}
	return st
}

// URL is a database's connection string for the owner of its tables. It holds the
// password: it is passed by environment only.
func (s *Stage) URL(db string, side estate.Side) string {
	return s.Stores(side).URL(fleet.Service{Name: db, Database: fleet.Postgres}, fleet.Owner)
}

// Server is a side's server.
func (s *Stage) Server(side estate.Side) *pgserver.Server {
	if side == estate.Source {
		return s.Source
	}
	return s.Target
}

// prepare fills the ledger, and deploys the landing zone meanwhile.
func (s *Stage) prepare(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.fill(ctx) })
	if s.cfg.Land != nil {
		g.Go(func() error { return s.land(ctx) })
	}
	return g.Wait()
}

// land deploys the landing zone, and lets the target's pods take their images from its registry.
func (s *Stage) land(ctx context.Context) (err error) {
	if err := s.writeLanding(); err != nil {
		return err
	}
	if s.Landed, err = s.cfg.Land(ctx, s.EstateFile, s.made); err != nil {
		return err
	}
	if h := s.cfg.Harbour; h != nil {
		h.pullFrom(s.Landed.Registry)
	}
	return nil
}

// reach is where a side's server is for the gate, the movers and the services: the
// target's where the landing zone's stacks tell, if there is one.
func (s *Stage) reach(side estate.Side, engine estate.Engine, port int) string {
	if side == estate.Target && s.Landed != nil {
		return s.Landed.Servers[engine]
	}
	return net.JoinHostPort(s.places[side].Host(), strconv.Itoa(port))
}

// fill creates the application's schemas, and its ledger at the source.
func (s *Stage) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	stores := s.Stores(estate.Source)
	if err := fleet.Migrate(ctx, s.cfg.Superapp, s.services(), stores); err != nil {
		return err
	}
	return stores.Seed(ctx, s.cfg.Superapp, "--accounts", strconv.Itoa(s.cfg.Accounts), "--entries", strconv.Itoa(s.cfg.Entries))
}

// StartServices starts the services of one side and waits until they answer.
func (s *Stage) StartServices(ctx context.Context, side estate.Side) error {
	stores := s.stores(side, func(engine estate.Engine, port int) string { return s.reach(side, engine, port) })
	return s.places[side].Start(ctx, s.services(), stores)
}

// processes are a side's services as processes of this machine.
type processes struct {
	side          estate.Side
	dir, superapp string
	addresses     map[string]string
	running       map[string]*process.Process
	order         []string // in which they were started
}

func (p *processes) Host() string                  { return loopback }
func (p *processes) Address(service string) string { return p.addresses[service] }
func (p *processes) Route(service string) string   { return p.addresses[service] }

func (p *processes) Start(ctx context.Context, services []fleet.Service, stores fleet.Stores) error {
	for _, one := range services {
		name := one.Name + "-" + string(p.side)
		cmd := one.Command(fleet.Start{Superapp: p.superapp, Listen: p.addresses[one.Name], Instance: string(p.side), Pool: pool, Stores: stores, Addresses: p.addresses})
		started, err := process.Start(cmd, process.Options{Name: name, Log: filepath.Join(p.dir, name+".log"), DeathSignal: syscall.SIGKILL})
		if err != nil {
			return err
		}
		p.running[name] = started
		p.order = append(p.order, name)
		if err := fleet.Await(ctx, started, name, "http://"+p.addresses[one.Name]+"/readyz"); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends those first that ask others.
func (p *processes) Stop() error {
	var errs []error
	for _, name := range slices.Backward(p.order) {
		errs = append(errs, p.running[name].StopWithin(processStop, syscall.SIGTERM))
	}
	p.order = nil
	return errors.Join(errs...)
}

// StartGate starts the gate, or starts it again after KillGate.
func (s *Stage) StartGate(ctx context.Context) error {
	if h := s.cfg.Harbour; h != nil {
		e, err := estate.Load(s.EstateFile)
		if err != nil {
			return err
		}
		return h.startMove(ctx, e)
	}
	cmd := exec.Command(s.cfg.Dhow, "gate", "--file", s.EstateFile) //nolint:noctx // it lives until Close
	// As for the services: with one processor no second thread is woken for each
	// packet, and what holds little is collected seldom.
	cmd.Env = append([]string{"GOMAXPROCS=1", "GOGC=400"}, os.Environ()...)
	p, err := s.start("gate", cmd)
	if err != nil {
		return err
	}
	return fleet.Await(ctx, p, "gate", "http://"+s.Gate+"/accounts/1")
}

// KillGate ends the gate as a crash would.
func (s *Stage) KillGate() {
	if p := s.running["gate"]; p != nil {
		p.Kill()
	}
}

func (s *Stage) start(name string, cmd *exec.Cmd) (*process.Process, error) {
	p, err := process.Start(cmd, process.Options{Name: name, Log: filepath.Join(s.Dir, name+".log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		return nil, err
	}
	s.running[name] = p
	return p, nil
}

// Close stops all that runs: traffic, gate, services, servers. It may be called again.
func (s *Stage) Close() error {
	var errs []error
	for _, n := range []string{"traffic", "gate"} {
		if p := s.running[n]; p != nil {
			errs = append(errs, p.StopWithin(processStop, syscall.SIGTERM))
			delete(s.running, n)
		}
	}
	for _, side := range sides {
		if p := s.places[side]; p != nil {
			errs = append(errs, p.Stop())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*processStop)
	defer cancel()
	for _, server := range []*pgserver.Server{s.Source, s.Target} {
		if server != nil {
			errs = append(errs, server.Stop(ctx))
		}
	}
	for _, side := range sides {
		if server := s.MariaDB[side]; server != nil {
			errs = append(errs, server.Stop(ctx))
		}
		if server := s.Redis[side]; server != nil {
			errs = append(errs, server.Stop(ctx))
		}
	}
	for _, p := range s.ports {
		p.Release()
	}
	return errors.Join(errs...)
}

// Transfers counts the transfers that a side's ledger holds.
func (s *Stage) Transfers(ctx context.Context, side estate.Side) (n int, err error) {
	conn, err := pgx.Connect(ctx, s.URL(fleet.Accounts, side))
	if err != nil {
		return 0, fmt.Errorf("connect to database %s of the %s: %w", fleet.Accounts, side, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has said all
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM transfers").Scan(&n); err != nil {
		return 0, fmt.Errorf("count the transfers at the %s: %w", side, err)
	}
	return n, nil
}
