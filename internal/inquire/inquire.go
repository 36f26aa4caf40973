// Package inquire asks the databases that an inventory found what they are: product and
// version, size, extensions, load. It asks only where it is told to, in sessions that can
// not write, within a bounded time, and as secure as the connection string says. Passwords
// come from the estate file's references or from the Secrets of a live cluster, go into
// connections and nowhere else. What can not be asked is a Problem of the inventory.
package inquire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/inventory"
)

const (
	// DefaultTimeout bounds all questions to one database.
	DefaultTimeout = 15 * time.Second
	// statementSeconds bounds one statement at the server.
	statementSeconds = 10
	// atOnce is how many databases are asked side by side.
	atOnce = 4
	// most is how many databases are asked: an inventory with more has found something else.
	most = 500
)

// Secrets gives what a Secret of the source's cluster holds, by key.
type Secrets interface {
	Values(ctx context.Context, secret inventory.Ref) (map[string]string, error)
}

// Options say whom to ask, and with which passwords.
type Options struct {
	// Estate names databases and where their passwords are; nil means that none is at hand.
	Estate *estate.Estate
	// Secrets gives passwords of the live cluster; nil means that none is at hand.
	Secrets Secrets
	// Timeout bounds all questions to one database; 0 means DefaultTimeout.
	Timeout time.Duration
}

// Databases asks the databases of an inventory, and those of the estate that it has not
// found, and puts the answers into it. The error is ctx's.
func Databases(ctx context.Context, inv *inventory.Inventory, o Options) error {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	q := &inquiry{Options: o, inv: inv}
	q.fromEstate()
	q.fromInventory(ctx)
	if over := len(q.calls) - most; over > 0 {
		q.problems = append(q.problems, inventory.Problem{What: fmt.Sprintf("%d databases were not asked: there are more than %d", over, most), Do: "name fewer namespaces, or fewer paths", Lost: true})
		q.calls = q.calls[:most]
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, c := range q.calls {
		g.Go(func() error {
			c.ask(ctx, o.Timeout)
			return nil
		})
	}
	_ = g.Wait() // what went wrong stands with each call
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ask the databases: %w", err)
	}
	q.conclude()
	return nil
}

// inquiry is one run of Databases.
type inquiry struct {
	Options
	inv      *inventory.Inventory
	calls    []*call
	found    []inventory.Database
	problems []inventory.Problem
}

// call is one database to ask, for all entries of the inventory that are of it.
type call struct {
	engine   inventory.Engine
	endpoint estate.Endpoint
	// password is of a Secret; the estate's is fetched where it is used.
	password string
	// modes are the ways to secure the connection, to be tried in this order: the next
	// only where the server has no TLS at all.
	modes []string
	// of are the entries, by their place in the inventory; new is one that it lacks.
	of  []int
	new *inventory.Database
	// at is where a problem with it is.
	at inventory.Problem

	answers *inventory.Answers
	err     error
}

// name is the database for a message.
func (c *call) name() string {
	name := string(c.engine)
	if c.endpoint.Database != "" {
		name += " " + c.endpoint.Database
	}
	return fmt.Sprintf("%s at %s:%d", name, c.endpoint.Host, c.endpoint.Port)
}

// same says that two engines are one to a client.
func same(a, b inventory.Engine) bool {
	plain := func(e inventory.Engine) inventory.Engine {
		if e == inventory.MySQL {
			return inventory.MariaDB
		}
		return e
	}
	return plain(a) == plain(b)
}

// fromEstate takes the sources of the estate, as it says how to reach them.
func (q *inquiry) fromEstate() {
	if q.Estate == nil {
		return
	}
	for n := range q.Estate.Databases {
		d := &q.Estate.Databases[n]
		c := &call{engine: inventory.Engine(cmp.Or(d.Engine, estate.PostgreSQL)), endpoint: d.Source, modes: []string{d.Source.TLS.Mode}, at: inventory.Problem{File: q.Estate.File}}
		if c.endpoint.Port == 0 {
			c.endpoint.Port = cmp.Or(d.Engine, estate.PostgreSQL).DefaultPort()
		}
		for i := range q.inv.Databases {
			have := &q.inv.Databases[i]
			if same(have.Engine, c.engine) && strings.EqualFold(have.Host, c.endpoint.Host) && have.Port == c.endpoint.Port && (c.endpoint.Database == "" || have.Name == c.endpoint.Database) {
				c.of = append(c.of, i)
			}
		}
		if len(c.of) == 0 {
			c.new = &inventory.Database{Engine: c.engine, Host: c.endpoint.Host, Port: c.endpoint.Port, Name: c.endpoint.Database, User: c.endpoint.User, Encryption: c.endpoint.TLS.Mode,
				Evidence: []inventory.Evidence{{By: inventory.ByEstate, Path: fmt.Sprintf("databases[%d].source", n), Text: d.Name, File: q.Estate.File}}}
		}
		q.calls = append(q.calls, c)
	}
}

// supported says whether an engine can be asked.
func supported(e inventory.Engine) bool {
	return e == inventory.PostgreSQL || e == inventory.MariaDB || e == inventory.MySQL || e == inventory.Redis
}

// fromInventory takes the others, with passwords of Secrets.
func (q *inquiry) fromInventory(ctx context.Context) {
	taken := map[int]bool{}
	for _, c := range q.calls {
		for _, i := range c.of {
			taken[i] = true
		}
	}
	for i := range q.inv.Databases {
		d := &q.inv.Databases[i]
		if taken[i] || !supported(d.Engine) {
			continue
		}
		c := &call{engine: d.Engine, of: []int{i}, at: placeOf(d)}
		if err := q.reach(ctx, c, d); err != nil {
			if ctx.Err() != nil {
				return
			}
			q.problem(c, describe(d), err)
			continue
		}
		if at := slices.IndexFunc(q.calls, c.like); at >= 0 {
			q.calls[at].of = append(q.calls[at].of, i)
			continue
		}
		q.calls = append(q.calls, c)
	}
}

// like says that another call would ask the same again.
func (c *call) like(o *call) bool {
	return same(c.engine, o.engine) && strings.EqualFold(c.endpoint.Host, o.endpoint.Host) && c.endpoint.Port == o.endpoint.Port && c.endpoint.Database == o.endpoint.Database
}

// placeOf is where a problem with a database of the inventory is.
func placeOf(d *inventory.Database) (at inventory.Problem) {
	if len(d.Evidence) > 0 {
		e := &d.Evidence[0]
		at.File, at.Line = e.File, e.Line
		if e.Object != (inventory.Ref{}) {
			at.Object = &e.Object
		}
	}
	return at
}

func describe(d *inventory.Database) string {
	text := string(d.Engine)
	if d.Name != "" {
		text += " " + d.Name
	}
	switch {
	case d.Host != "":
		return fmt.Sprintf("%s at %s:%d", text, d.Host, d.Port)
	case d.Secret != nil:
		return text + " of " + d.Secret.String()
	case d.Server != nil:
		return text + " of " + d.Server.String()
	}
	return text
}

// reach finds out how to connect to a database of the inventory.
func (q *inquiry) reach(ctx context.Context, c *call, d *inventory.Database) error {
	user := d.User
	switch {
	case d.Secret != nil && q.Secrets == nil:
		return errors.New("its password is in a Secret, and no cluster is read")
	case d.Secret != nil:
		values, err := q.Secrets.Values(ctx, *d.Secret)
		if err != nil {
			return err
		}
		value, ok := values[d.SecretKey]
		if !ok {
			return fmt.Errorf("%s has no key %q", d.Secret, d.SecretKey)
		}
		if of, password, ok := inventory.Connection(value, d.Engine); ok {
			d.Host, d.Port, d.Name, d.User, d.Encryption = of.Host, of.Port, of.Name, of.User, of.Encryption
			c.password, user = password, of.User
		} else {
			c.password = strings.TrimRight(value, "\r\n")
			user = cmp.Or(user, userOf(values))
		}
	case d.PlainPassword:
		return errors.New("its password stands in the open, and is not kept")
	case d.Engine != inventory.Redis: // which often has none
		return errors.New("no password is known")
	}
	if d.Host == "" {
		return errors.New("its host is not known")
	}
	if user == "" && d.Engine != inventory.Redis {
		return errors.New("its user is not known")
	}
	c.modes = modes(d.Engine, d.Encryption)
	c.endpoint = estate.Endpoint{Host: d.Host, Port: d.Port, Database: d.Name, User: user}
	return nil
}

// userOf is the user that stands beside a password in a Secret.
func userOf(values map[string]string) string {
	for _, k := range []string{"username", "user", "USERNAME", "USER", "POSTGRES_USER", "PGUSER", "MYSQL_USER", "MARIADB_USER", "DB_USER", "DB_USERNAME", "REDIS_USERNAME"} {
		if v := strings.TrimSpace(values[k]); v != "" {
			return v
		}
	}
	return ""
}

// modes are how to secure a connection whose string says so much, as the engine's usual
// clients do.
func modes(engine inventory.Engine, says string) []string {
	preferred := []string{estate.TLSRequire, estate.TLSDisable}
	says = strings.ReplaceAll(strings.ToLower(says), "_", "-")
	switch says {
	case "":
		if engine == inventory.PostgreSQL {
			return preferred
		}
		return []string{estate.TLSDisable}
	case "prefer", "preferred", "allow":
		return preferred
	case "disable", "disabled", "false":
		return []string{estate.TLSDisable}
	case "require", "required", "skip-verify":
		return []string{estate.TLSRequire}
	case "verify-ca":
		return []string{estate.TLSVerifyCA}
	}
	return []string{estate.TLSVerifyFull}
}

// errNoTLS is that a server speaks no TLS.
var errNoTLS = errors.New("the server has no TLS")

// ask asks one database.
func (c *call) ask(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for n, mode := range c.modes {
		end := c.endpoint
		if mode != "" {
			end.TLS.Mode = mode
		}
		switch c.engine {
		case inventory.PostgreSQL:
			c.answers, c.err = postgres(ctx, end, c.password)
		case inventory.Redis:
			c.answers, c.err = redisServer(ctx, end, c.password)
		default:
			c.answers, c.err = mariadb(ctx, end, c.password)
		}
		if !errors.Is(c.err, errNoTLS) || n == len(c.modes)-1 {
			break
		}
	}
	if c.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.err = fmt.Errorf("no answer within %s: %w", timeout, c.err)
	}
}

// load notes how much was served in so many seconds.
func load(a *inventory.Answers, served, seconds float64) {
	if seconds < 1 {
		return // nothing can be said of it
	}
	a.Over = time.Duration(seconds) * time.Second
	a.PerSecond = math.Round(served/seconds*100) / 100
}

func (q *inquiry) problem(c *call, what string, err error) {
	p := c.at
	p.What, p.Lost = what+" was not asked: "+oneLine(err), true
	p.Do = "name it in an estate file, with a user who may sign in, and run this where its address can be reached"
	q.problems = append(q.problems, p)
}

// oneLine is an error on one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// conclude puts the answers into the inventory.
func (q *inquiry) conclude() {
	for _, c := range q.calls {
		if c.err != nil {
			q.problem(c, c.name(), c.err)
		}
		for _, i := range c.of {
			q.inv.Databases[i].Answers = c.answers
		}
		if c.new != nil {
			c.new.Answers = c.answers
			q.found = append(q.found, *c.new)
		}
	}
	q.inv.Learn(q.found, q.problems)
}
