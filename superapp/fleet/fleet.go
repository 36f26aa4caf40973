package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/mariadbserver"
	"dhow/internal/pgserver"
	"dhow/internal/process"
	"dhow/internal/redisserver"
)

const (
	// DefaultCustomers is how many the ledger holds.
	DefaultCustomers = 10_000
	// DefaultPool is how many connections a service opens to each store: enough for
	// a thousand requests a second of the whole application.
	DefaultPool = 8
	// postgresVersion is the major version that is started.
	postgresVersion = 15
	// readyTime bounds the wait for a service to answer; readyPoll is the pause between two questions.
	readyTime = 30 * time.Second
	readyPoll = 20 * time.Millisecond
	// stopTime bounds the graceful end of a service, serverStop that of a server.
	stopTime   = 20 * time.Second
	serverStop = 30 * time.Second
	// seedTime bounds the filling of the ledger.
	seedTime = 10 * time.Minute
	// instance names the services in the rows that they write.
	instance = "source"
)

// Config says what to start.
type Config struct {
	// Superapp is the program.
	Superapp string
	// Dir takes the logs; it is created when it does not exist.
	Dir string
	// Listen is the address of all services together; port 0 lets the kernel choose.
	Listen string
	// Customers is how many are seeded; the first of them is number 1.
	Customers int
	// Pool is how many connections a service opens to each store.
	Pool int
	// Host is a further address of this machine that the servers listen on, for
	// services in other network namespaces; empty means none.
	Host string
	// Say, if set, is told what happens.
	Say func(string)
}

// Fleet is the whole application on this machine: servers, services and one
// address for all. What it started ends with Close, and when this process dies.
type Fleet struct {
	// Address is where all services answer: host and port.
	Address string
	// Addresses are the services' own, by name.
	Addresses map[string]string
	Stores    Stores
	Postgres  *pgserver.Server
	MariaDB   *mariadbserver.Server
	Redis     *redisserver.Server

	cfg     Config
	edge    *edge
	running map[string]*process.Process
	ports   []*process.Port // the services', kept until Close
}

// Launch starts everything, loads the data and returns once all services are ready.
func Launch(ctx context.Context, cfg Config) (_ *Fleet, err error) {
	f, err := Beside(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := f.startServices(ctx); err != nil {
		return nil, errors.Join(err, f.Close()) //nolint:contextcheck // also when ctx has ended
	}
	return f, f.writeChecking()
}

// Beside starts the servers and loads the data, for services that run elsewhere.
func Beside(ctx context.Context, cfg Config) (_ *Fleet, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string) {}
	}
	f := &Fleet{cfg: cfg, Addresses: map[string]string{}, running: map[string]*process.Process{}, Stores: Stores{Secrets: NewSecrets()}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the logs: %w", err)
	}
	defer func() { //nolint:contextcheck // also when ctx has ended
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	cfg.Say("starting PostgreSQL, MariaDB and Redis")
	if err := f.startServers(ctx); err != nil {
		return nil, err
	}
	cfg.Say(fmt.Sprintf("creating the schemas and the data of %d customers", cfg.Customers))
	if err := f.fill(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// startServices starts them all, and the one address for them.
func (f *Fleet) startServices(ctx context.Context) error {
	f.cfg.Say("starting the services")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: choose another address with --listen: %w", f.cfg.Listen, err)
	}
	if err := f.choosePorts(); err != nil {
		return errors.Join(err, listener.Close())
	}
	f.Address, f.edge = listener.Addr().String(), serveEdge(listener, f.Addresses)
	for _, s := range Services() {
		if err := f.Start(ctx, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkingFile says where the databases are, for `superapp check`. It holds passwords.
const checkingFile = "check.env"

// writeChecking writes it, as a shell reads it.
func (f *Fleet) writeChecking() error {
	var text strings.Builder
	for _, v := range f.Stores.Checking(Services()) {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&text, "export %s='%s'\n", name, value)
	}
	if err := os.WriteFile(filepath.Join(f.cfg.Dir, checkingFile), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write where the databases are: %w", err)
	}
	return nil
}

func (f *Fleet) startServers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if f.Postgres, err = pgserver.Start(ctx, pgserver.Options{Version: postgresVersion, Listen: f.cfg.Host}); err != nil {
			return err
		}
		f.Stores.Postgres = f.address(f.Postgres.Port)
		return PreparePostgres(ctx, f.Postgres, f.Stores.Secrets, Databases(Postgres))
	})
	g.Go(func() (err error) {
		if f.MariaDB, err = mariadbserver.Start(ctx, mariadbserver.Options{Listen: f.cfg.Host}); err != nil {
			return err
		}
		f.Stores.MariaDB = f.address(f.MariaDB.Port)
		return PrepareMariaDB(ctx, f.MariaDB, f.Stores.Secrets)
	})
	g.Go(func() (err error) {
		if f.Redis, err = redisserver.Start(ctx, redisserver.Options{Listen: f.cfg.Host, Password: f.Stores.Secrets.Redis}); err != nil {
			return err
		}
		f.Stores.Redis = f.address(f.Redis.Port)
		return nil
	})
	return g.Wait()
}

// address is where services reach a server.
func (f *Fleet) address(port int) string {
	host := f.cfg.Host
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// fill creates the schemas and seeds the ledger.
func (f *Fleet) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedTime)
	defer cancel()
	if err := Migrate(ctx, f.cfg.Superapp, Services(), f.Stores); err != nil {
		return err
	}
	return f.Stores.Seed(ctx, f.cfg.Superapp, "--customers", strconv.Itoa(f.cfg.Customers))
}

// Seed fills the ledger; args say with how much.
func (s Stores) Seed(ctx context.Context, superapp string, args ...string) error {
	_, err := Run(ctx, superapp, s.Environment(Service{Name: Accounts, Database: Postgres}, Owner), append([]string{"seed"}, args...)...)
	return err
}

// choosePorts reserves the services' ports, since they must know each other's.
func (f *Fleet) choosePorts() error {
	for _, s := range Services() {
		p, err := process.ReservePort()
		if err != nil {
			return err
		}
		f.ports = append(f.ports, p)
		f.Addresses[s.Name] = p.On("127.0.0.1")
	}
	return nil
}

// Start starts one service, or starts it again, and returns once it is ready.
func (f *Fleet) Start(ctx context.Context, name string) error {
	i := slices.IndexFunc(Services(), func(s Service) bool { return s.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no service %q", name)
	}
	cmd := Services()[i].Command(Start{Superapp: f.cfg.Superapp, Listen: f.Addresses[name], Instance: instance, Pool: f.cfg.Pool, Stores: f.Stores, Addresses: f.Addresses})
	p, err := process.Start(cmd, process.Options{Name: name, Log: filepath.Join(f.cfg.Dir, name+".log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		return err
	}
	f.running[name] = p
	return Await(ctx, p, name, "http://"+f.Addresses[name]+"/readyz")
}

// Check runs `superapp check` on all databases and returns what it printed.
func (f *Fleet) Check(ctx context.Context, args ...string) ([]byte, error) {
	return Run(ctx, f.cfg.Superapp, f.Stores.Checking(Services()), append([]string{"check"}, args...)...)
}

// Kill ends a service as a crash would.
func (f *Fleet) Kill(name string) {
	if p := f.running[name]; p != nil {
		p.Kill()
	}
}

// Await returns once an address of a process answers with 200.
func Await(ctx context.Context, p *process.Process, name, address string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.Done():
			cancel(fmt.Errorf("it ended: %s", p.LogTail()))
		case <-ctx.Done():
		}
	}()
	if err := Answers(ctx, name, address); err != nil {
		return fmt.Errorf("%w: see its log: %s", err, p.LogTail())
	}
	return nil
}

// Answers returns once an address answers with 200.
func Answers(ctx context.Context, name, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return fmt.Errorf("ask whether %s is ready: %w", name, err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait up to %s for %s to be ready: %w", readyTime, name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Ended is closed, or gets a name, when a service ends by itself.
func (f *Fleet) Ended(ctx context.Context) <-chan string {
	ended := make(chan string, len(f.running))
	for name, p := range f.running {
		go func() {
			select {
			case <-p.Done():
				ended <- name
			case <-ctx.Done():
			}
		}()
	}
	return ended
}

// Close ends all that runs, those first that ask others. It may be called again.
func (f *Fleet) Close() error {
	var errs []error
	if f.edge != nil {
		errs = append(errs, f.edge.close())
		f.edge = nil
	}
	services := Services()
	slices.Reverse(services)
	for _, s := range services {
		if p := f.running[s.Name]; p != nil {
			errs = append(errs, p.StopWithin(stopTime, syscall.SIGTERM))
		}
	}
	maps.DeleteFunc(f.running, func(string, *process.Process) bool { return true })
	for _, p := range f.ports {
		p.Release()
	}
	ctx, cancel := context.WithTimeout(context.Background(), serverStop)
	defer cancel()
	if f.Postgres != nil {
		errs = append(errs, f.Postgres.Stop(ctx))
	}
	if f.MariaDB != nil {
		errs = append(errs, f.MariaDB.Stop(ctx))
	}
	if f.Redis != nil {
		errs = append(errs, f.Redis.Stop(ctx))
	}
	return errors.Join(errs...)
}
