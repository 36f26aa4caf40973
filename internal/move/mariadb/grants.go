package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// account is a user or a role of a server.
type account struct {
	user, host string
	role       bool
}

// String is the account as statements name it.
func (a account) String() string {
	if a.role {
		return quote(a.user)
	}
	return quote(a.user) + "@" + quote(a.host)
}

// quote makes an identifier of a name.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// accounts are those of a server, by their names in statements. Anonymous ones and
// the server's own are left out.
func accounts(ctx context.Context, conn *sql.Conn) (map[string]account, error) {
	rows, err := conn.QueryContext(ctx, "SELECT User, Host, is_role = 'Y' FROM mysql.user WHERE User NOT IN ('', 'root', 'mariadb.sys', 'mysql', 'rdsadmin', 'rdsrepladmin', 'PUBLIC')")
	if err != nil {
		return nil, fmt.Errorf("list the accounts (it takes SELECT on mysql.user): %w", err)
	}
	defer rows.Close()
	all := map[string]account{}
	for rows.Next() {
		var a account
		if err := rows.Scan(&a.user, &a.host, &a.role); err != nil {
			return nil, fmt.Errorf("list the accounts: %w", err)
		}
		all[a.String()] = a
	}
	return all, rows.Err()
}

// grantOn matches a right on a database or something in it, as SHOW GRANTS writes it.
var grantOn = regexp.MustCompile("^GRANT .+? ON (?:PROCEDURE |FUNCTION |PACKAGE BODY |PACKAGE )?`((?:[^`]|``)+)`\\.(?:\\*|`(?:[^`]|``)+`) TO ")

// grantedOn is the database that a statement of SHOW GRANTS gives rights on, which
// may be a pattern; false for rights on all of them, or a role.
func grantedOn(statement string) (database string, ok bool) {
	found := grantOn.FindStringSubmatch(statement)
	if found == nil {
		return "", false
	}
	return strings.ReplaceAll(found[1], "``", "`"), true
}

// covers says whether a database is one that a pattern of a right means: % stands for
// any letters, _ for any one, and a backslash before them for themselves.
func covers(pattern, database string) bool {
	var re strings.Builder
	re.WriteString("(?s)^")
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			i++
			re.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		case c == '%':
			re.WriteString(".*")
		case c == '_':
			re.WriteString(".")
		default:
			re.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	re.WriteString("$")
	is, err := regexp.MatchString(re.String(), database)
	return err == nil && is
}

// carryGrants gives the accounts that both servers have their rights on the databases
// that move, as they are at the source. Accounts themselves, with their passwords and
// their rights on the whole server, are the operator's to make. A right that can not
// be given is told, and stops nothing: it can be given later.
func (l *loader) carryGrants(ctx context.Context) error {
	from, err := l.m.session(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(from)
	to, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(to)
	databases := make([]string, len(l.catalog.Schemas))
	for i, s := range l.catalog.Schemas {
		databases[i] = s.Name
	}
	err = giveGrants(ctx, from, to, databases)
	var refusal *mysql.MySQLError
	if err != nil && errors.As(err, &refusal) && ctx.Err() == nil {
		l.m.log.Warn("the application's accounts do not have all of their rights at the target: give them there", "error", err)
		return nil
	}
	return err
}

func giveGrants(ctx context.Context, from, to *sql.Conn, databases []string) error {
	ours, err := accounts(ctx, from)
	if err != nil {
		return err
	}
	theirs, err := accounts(ctx, to)
	if err != nil {
		return err
	}
	var refused []error
	for name, a := range ours {
		if _, both := theirs[name]; !both {
			continue
		}
		statements, err := grants(ctx, from, a, databases)
		if err != nil {
			return err
		}
		for _, s := range statements {
			if _, err := to.ExecContext(ctx, s); err != nil {
				refused = append(refused, fmt.Errorf("%s: %w", s, err))
			}
		}
	}
	return errors.Join(refused...)
}

// noSuchGrant: the account has no rights at all.
const noSuchGrant = 1141

// grants are the statements that give an account its rights on some databases.
func grants(ctx context.Context, conn *sql.Conn, a account, databases []string) ([]string, error) {
	rows, err := conn.QueryContext(ctx, "SHOW GRANTS FOR "+a.String())
	var refusal *mysql.MySQLError
	if errors.As(err, &refusal) && refusal.Number == noSuchGrant {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the rights of %s: %w", a, err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("list the rights of %s: %w", a, err)
		}
		pattern, ok := grantedOn(s)
		if !ok || strings.Contains(s, "IDENTIFIED ") {
			continue
		}
		for _, d := range databases {
			if covers(pattern, d) {
				all = append(all, s)
				break
			}
		}
	}
	return all, rows.Err()
}
