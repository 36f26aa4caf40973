package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Server is a database server that is prepared for the application.
type Server interface {
	CreateDatabase(ctx context.Context, name string) error
	Exec(ctx context.Context, database, sql string) error
}

// PreparePostgres makes the roles of all services that it keeps the database of,
// and the empty databases of some, on a server.
func PreparePostgres(ctx context.Context, s Server, secrets Secrets, databases []string) error {
	var roles strings.Builder
	for _, role := range append([]string{Owner}, Databases(Postgres)...) {
		fmt.Fprintf(&roles, "CREATE ROLE %s LOGIN PASSWORD '%s';", role, secrets.Password(role))
	}
	if err := s.Exec(ctx, "postgres", roles.String()); err != nil {
		return errors.New("create the application's roles in PostgreSQL: the server refused it") // the statements hold passwords
	}
	for _, db := range databases {
		if err := s.CreateDatabase(ctx, db); err != nil {
			return err
		}
		own := fmt.Sprintf("ALTER DATABASE %[1]s OWNER TO %[2]s; REVOKE ALL ON DATABASE %[1]s FROM PUBLIC; GRANT CONNECT ON DATABASE %[1]s TO %[1]s; ALTER SCHEMA public OWNER TO %[2]s", db, Owner)
		if err := s.Exec(ctx, db, own); err != nil {
			return err
		}
	}
	return nil
}

// PrepareMariaDB makes the accounts and the empty databases on a server.
func PrepareMariaDB(ctx context.Context, s Server, secrets Secrets) error {
	names := Databases(MariaDB)
	var accounts strings.Builder
	for _, role := range append([]string{Owner}, names...) {
		fmt.Fprintf(&accounts, "CREATE USER '%s'@'%%' IDENTIFIED BY '%s';", role, secrets.Password(role))
	}
	if err := s.Exec(ctx, "mysql", accounts.String()); err != nil {
		return errors.New("create the application's accounts in MariaDB: the server refused it") // the statements hold passwords
	}
	for _, db := range names {
		if err := s.CreateDatabase(ctx, db); err != nil {
			return err
		}
		if err := s.Exec(ctx, "mysql", fmt.Sprintf("GRANT ALL ON `%s`.* TO '%s'@'%%' WITH GRANT OPTION", db, Owner)); err != nil {
			return err
		}
	}
	return nil
}

// Migrate creates the schemas of services, and grants their roles what they need.
func Migrate(ctx context.Context, superapp string, services []Service, stores Stores) error {
	for _, s := range services {
		if s.Database == None {
			continue
		}
		s.Redis = false // not needed for it
		if _, err := Run(ctx, superapp, stores.Environment(s, Owner), "migrate", s.Name, "--role", s.Name); err != nil {
			return err
		}
	}
	return nil
}

// Run runs one of the application's tools to its end and returns what it printed.
func Run(ctx context.Context, superapp string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, superapp, args...)
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

// Checking is what `superapp check` must be told to look at one side: the databases
// as their owner sees them, in variables named NAME_URL.
func (s Stores) Checking(services []Service) []string {
	var env []string
	for _, one := range services {
		if one.Database != None {
			env = append(env, strings.ToUpper(one.Name)+"_URL="+s.URL(one, Owner))
		}
	}
	return env
}
