// Package fleet knows which services the application is made of, what each needs
// and how it is started, and can start them all on this machine. The services know
// nothing of it.
package fleet

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
)

// Engine is what a service's own database is kept by.
type Engine string

// The engines; None is a service without a database of its own.
const (
	None     Engine = ""
	Postgres Engine = "postgres"
	MariaDB  Engine = "mariadb"
)

// Service is one of the application's services. Its database and its role in that
// have its name.
type Service struct {
	Name string
	// Database is the engine that keeps its database.
	Database Engine
	// Redis says that it keeps some of its state there.
	Redis bool
	// Asks are the services whose addresses it is given.
	Asks []string
	// Paths are what clients may ask of it, as prefixes.
	Paths []string
}

// Names of the services, which are also those of their commands.
const (
	Accounts  = "accounts"
	FX        = "fx"
	Analytics = "analytics"
	Payments  = "payments"
	Transfers = "transfers"
	Cards     = "cards"
	Web       = "web"
	Site      = "site"
)

// cardsKey names the key that makes the numbers of cards.
const cardsKey = "CARDS_KEY"

// Services are all, each behind those that it asks.
func Services() []Service {
	return []Service{
		{Name: Accounts, Database: Postgres, Paths: []string{"/accounts", "/payees", "/transfers"}},
		{Name: FX, Redis: true, Paths: []string{"/rates"}},
		{Name: Analytics, Database: MariaDB, Paths: []string{"/insights"}},
		{Name: Payments, Database: Postgres, Asks: []string{Accounts, Analytics}, Paths: []string{"/payments", "/requests", "/splits"}},
		{Name: Transfers, Database: Postgres, Redis: true, Asks: []string{Accounts, FX, Analytics}, Paths: []string{"/corridors", "/quotes", "/sends"}},
		{Name: Cards, Database: MariaDB, Asks: []string{Accounts, Analytics}, Paths: []string{"/cards", "/authorisations"}},
		{Name: Web, Redis: true, Asks: []string{Accounts, Payments, Transfers, Cards, FX, Analytics}, Paths: []string{"/app"}},
		{Name: Site, Paths: []string{"/"}},
	}
}

// Databases are the names of the services with a database of an engine.
func Databases(e Engine) []string {
	var names []string
	for _, s := range Services() {
		if s.Database == e {
			names = append(names, s.Name)
		}
	}
	return names
}

// Stores are where the services of one side find their state.
type Stores struct {
	// Postgres, MariaDB and Redis are hosts with ports.
	Postgres, MariaDB, Redis string
	Secrets                  Secrets
}

// URL is the connection string of a service's own database for its role, or for
// another one such as Owner. It holds a password: pass it by environment only.
func (s Stores) URL(of Service, role string) string {
	u := url.URL{Scheme: string(of.Database), User: url.UserPassword(role, s.Secrets.Password(role)), Path: "/" + of.Name}
	switch of.Database {
	case Postgres:
		u.Host, u.RawQuery = s.Postgres, "sslmode=disable"
	case MariaDB:
		u.Host = s.MariaDB
	case None:
		return ""
	}
	return u.String()
}

// RedisURL is the connection string of Redis. It holds the password.
func (s Stores) RedisURL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.Secrets.Redis), Host: s.Redis, Path: "/0"}
	return u.String()
}

// variables are the environment's names for the engines' connection strings.
var variables = map[Engine]string{Postgres: "DATABASE_URL", MariaDB: "MARIADB_URL"}

// Environment is what a service, or a tool that acts as a role, must be told.
func (s Stores) Environment(of Service, role string) []string {
	var env []string
	if v := variables[of.Database]; v != "" {
		env = append(env, v+"="+s.URL(of, role))
	}
	if of.Redis {
		env = append(env, "REDIS_URL="+s.RedisURL())
	}
	if of.Name == Cards {
		env = append(env, cardsKey+"="+s.Secrets.CardsKey)
	}
	return env
}

// Start says how a service is started.
type Start struct {
	// Superapp is the program.
	Superapp string
	// Listen is the address that it serves on.
	Listen, Instance string
	// Pool is how many connections it opens to each store.
	Pool   int
	Stores Stores
	// Addresses are the services', by name: host and port. What is not there is not
	// asked, where a service can do without.
	Addresses map[string]string
}

// Command is the process of a service, which lives until its owner ends it.
func (s Service) Command(start Start) *exec.Cmd {
	args := []string{s.Name, "--listen", start.Listen, "--instance", start.Instance, "--pool", strconv.Itoa(start.Pool)}
	for _, asked := range s.Asks {
		if address := start.Addresses[asked]; address != "" {
			args = append(args, fmt.Sprintf("--%s-url", asked), "http://"+address)
		}
	}
	cmd := exec.Command(start.Superapp, args...) //nolint:noctx // it lives until its owner ends it
	// With one processor the runtime wakes no second thread for each packet: no service
	// needs half of one. And each holds a few megabytes only: collected at twice that,
	// a tenth of its time would go there. What the environment says comes last, and so it stands.
	cmd.Env = slices.Concat([]string{"GOMAXPROCS=1", "GOGC=400"}, os.Environ(), start.Stores.Environment(s, s.Name))
	return cmd
}
