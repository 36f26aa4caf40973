package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/pgserver"
	"dhow/internal/process"
)

// Stage is everything around a move on one machine: two PostgreSQL servers, the
// application's services on both sides, the gate before them and the traffic.
// It moves nothing; the demo and the tests do that, with the estate file that
// the stage writes. Close stops all that it started.
type Stage struct {
	cfg StageConfig
	// Dir holds the estate file, the logs and the history.
	Dir            string
	Source, Target *pgserver.Server
	// EstateFile is the dhow.yaml of the move.
	EstateFile string
	// Gate is the address that clients use.
	Gate string

	appPassword string
	ports       map[string]int // of the services and the gate
	running     map[string]*process.Process
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
	// SourceSettings and TargetSettings override the servers' settings.
	SourceSettings, TargetSettings map[string]string
	// TargetDir is the folder of the target's cluster; empty means a temporary one.
	TargetDir string
	// SourceAddress and TargetAddress replace the servers' addresses in the
	// estate file, for a test that stands between dhow and a server. They are
	// called once the servers run.
	SourceAddress, TargetAddress func(server string) string
	// StallBudget, HoldTime and RowsPerSecond are the estate's; 0 means the defaults.
	StallBudget, HoldTime time.Duration
	RowsPerSecond         int
	Copies, Lanes         int
	// Quick leaves out the comparison before each cutover; the proof behind it stays.
	Quick bool
}

// Names of the stage's databases, which are also the services' names.
const (
	accountsName = "accounts"
	paymentsName = "payments"
)

// databases in the order in which the services need each other.
var databases = []string{accountsName, paymentsName}

const (
	// appRole owns the application's tables on both sides; it is no superuser.
	appRole = "superapp"
	// pool is a service's connections: enough for the demo's rate, and few that meet
	// a server for the first time when the traffic comes.
	pool = 8
	// readyTimeout bounds the wait for a service to answer.
	readyTimeout = 30 * time.Second
	readyPoll    = 20 * time.Millisecond
	// processStop bounds the graceful end of a service.
	processStop = 15 * time.Second
	// seedTimeout bounds the filling of the ledger.
	seedTimeout = 10 * time.Minute
)

// NewStage sets up the servers, the schema, the ledger and the source's
// services; the gate, the target's services and the traffic are started apart.
func NewStage(ctx context.Context, cfg StageConfig) (_ *Stage, err error) {
	s := &Stage{cfg: cfg, ports: map[string]int{}, running: map[string]*process.Process{}}
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
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	s.appPassword = hex.EncodeToString(random[:])
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	if err := s.startServers(ctx); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	if err := s.writeEstate(); err != nil {
		return nil, err
	}
	return s, s.StartServices(ctx, estate.Source)
}

// choosePorts asks the kernel for the ports that the estate file must name
// before their owners run.
func (s *Stage) choosePorts() error {
	names := []string{"gate"}
	for _, side := range []estate.Side{estate.Source, estate.Target} {
		for _, db := range databases {
			names = append(names, serviceName(db, side))
		}
	}
	for _, n := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a bind that does not wait
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all are held until each has one of its own
		s.ports[n] = l.Addr().(*net.TCPAddr).Port
	}
	s.Gate = s.address("gate")
	return nil
}

func serviceName(db string, side estate.Side) string { return db + "-" + string(side) }

func (s *Stage) address(name string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports[name]))
}

func (s *Stage) startServers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range []struct {
		into     **pgserver.Server
		version  int
		dir      string
		settings map[string]string
	}{{&s.Source, s.cfg.From, "", s.cfg.SourceSettings}, {&s.Target, s.cfg.To, s.cfg.TargetDir, s.cfg.TargetSettings}} {
		g.Go(func() error {
			server, err := pgserver.Start(ctx, pgserver.Options{Version: one.version, Dir: one.dir, Settings: one.settings})
			if err != nil {
				return err
			}
			*one.into = server
			role := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", appRole, s.appPassword)
			if err := server.Exec(ctx, "postgres", role); err != nil {
				return errors.New("create the application's role: the server refused it") // the statement holds the password
			}
			for _, db := range databases {
				if err := server.CreateDatabase(ctx, db); err != nil {
					return err
				}
				own := fmt.Sprintf("ALTER DATABASE %s OWNER TO %s; ALTER SCHEMA public OWNER TO %s", db, appRole, appRole)
				if err := server.Exec(ctx, db, own); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// URL is a database's connection string for the application. It holds the
// password: it is passed by environment only.
func (s *Stage) URL(db string, side estate.Side) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(appRole, s.appPassword), Path: "/" + db,
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Server(side).Port)), RawQuery: "sslmode=disable"}
	return u.String()
}

// Server is a side's server.
func (s *Stage) Server(side estate.Side) *pgserver.Server {
	if side == estate.Source {
		return s.Source
	}
	return s.Target
}

// fill creates the application's schema and its ledger at the source.
func (s *Stage) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	for _, db := range databases {
		if _, err := s.run(ctx, []string{"DATABASE_URL=" + s.URL(db, estate.Source)}, "migrate", db); err != nil {
			return err
		}
	}
	_, err := s.run(ctx, []string{"DATABASE_URL=" + s.URL(accountsName, estate.Source)},
		"seed", "--accounts", strconv.Itoa(s.cfg.Accounts), "--entries", strconv.Itoa(s.cfg.Entries))
	return err
}

// run runs the application's program to its end and returns what it printed.
func (s *Stage) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.cfg.Superapp, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return out, fmt.Errorf("superapp %s: %w: %s", args[0], err, exit.Stderr)
		}
		return out, fmt.Errorf("superapp %s: %w", args[0], err)
	}
	return out, nil
}

// StartServices starts the services of one side and waits until they answer.
func (s *Stage) StartServices(ctx context.Context, side estate.Side) error {
	for _, db := range databases {
		name := serviceName(db, side)
		args := []string{db, "--listen", s.address(name), "--instance", string(side), "--pool", strconv.Itoa(pool)}
		if db == paymentsName {
			args = append(args, "--accounts-url", "http://"+s.address(serviceName(accountsName, side)))
		}
		cmd := exec.Command(s.cfg.Superapp, args...) //nolint:noctx // it lives until Close
		cmd.Env = append(os.Environ(), "DATABASE_URL="+s.URL(db, side))
		if err := s.start(name, cmd); err != nil {
			return err
		}
		if err := s.await(ctx, name, "http://"+s.address(name)+"/readyz"); err != nil {
			return err
		}
	}
	return nil
}

// StartGate starts the gate, or starts it again after KillGate.
func (s *Stage) StartGate(ctx context.Context) error {
	if err := s.start("gate", exec.Command(s.cfg.Dhow, "gate", "--file", s.EstateFile)); err != nil { //nolint:noctx // it lives until Close
		return err
	}
	return s.await(ctx, "gate", "http://"+s.Gate+"/accounts/1")
}

// KillGate ends the gate as a crash would.
func (s *Stage) KillGate() {
	if p := s.running["gate"]; p != nil {
		p.Kill()
	}
}

func (s *Stage) start(name string, cmd *exec.Cmd) error {
	p, err := process.Start(cmd, process.Options{Name: name, Log: filepath.Join(s.Dir, name+".log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		return err
	}
	s.running[name] = p
	return nil
}

// await returns once the address answers with 200.
func (s *Stage) await(ctx context.Context, name, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return fmt.Errorf("ask whether %s is ready: %w", name, err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.running[name].Done():
			return fmt.Errorf("%s ended while it started: %s", name, s.running[name].LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready in %s: %s", name, readyTimeout, s.running[name].LogTail())
		case <-time.After(readyPoll):
		}
	}
}

// Close stops all that runs: traffic, gate, services, servers. It may be called again.
func (s *Stage) Close() error {
	var errs []error
	order := []string{"traffic", "gate"}
	for _, side := range []estate.Side{estate.Source, estate.Target} {
		order = append(order, serviceName(paymentsName, side), serviceName(accountsName, side))
	}
	for _, n := range order {
		if p := s.running[n]; p != nil {
			errs = append(errs, p.StopWithin(processStop, syscall.SIGTERM))
			delete(s.running, n)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*processStop)
	defer cancel()
	for _, server := range []*pgserver.Server{s.Source, s.Target} {
		if server != nil {
			errs = append(errs, server.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// Transfers counts the transfers that a side's ledger holds.
func (s *Stage) Transfers(ctx context.Context, side estate.Side) (n int, err error) {
	conn, err := pgx.Connect(ctx, s.URL(accountsName, side))
	if err != nil {
		return 0, fmt.Errorf("connect to database %s of the %s: %w", accountsName, side, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has said all
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM transfers").Scan(&n); err != nil {
		return 0, fmt.Errorf("count the transfers at the %s: %w", side, err)
	}
	return n, nil
}
