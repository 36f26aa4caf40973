// Command mariadb measures the MariaDB mover's copy beside mydumper and myloader,
// dump and load together, in one run on one machine. It starts servers of its own,
// alike on both ends, lets the rivals take turns, and compares every table's
// checksum after each turn. See bench/README.md for what is measured and how to read it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"dhow/bench/sidebyside"
	"dhow/internal/mariadbserver"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
)

func main() {
	os.Exit(sidebyside.Bench{Name: "mariadb", Shapes: shapes, Open: openMover, Measure: measure}.Main())
}

// task is what a mover's process does.
type task struct {
	Source endpoint `json:"source"`
	Target endpoint `json:"target"`
}

// endpoint is a server of this machine and an account there.
type endpoint struct {
	Port     int    `json:"port"`
	User     string `json:"user"`
	Password string `json:"password"`
}

func endpointOf(s *mariadbserver.Server) endpoint {
	return endpoint{s.Port, s.User(), s.Password()}
}

func (e endpoint) config() *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", net.JoinHostPort(loopback, strconv.Itoa(e.Port)), e.User, e.Password
	return c
}

func (e endpoint) replica() mariadb.Replica {
	return mariadb.Replica{Host: loopback, Port: e.Port, User: e.User, Password: e.Password}
}

// loopback is where this program's servers are.
const loopback = "127.0.0.1"

func openMover(text json.RawMessage) (move.Mover, error) {
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the task: %w", err)
	}
	return mariadb.New(mariadb.Config{Estate: "bench", Name: "copied", Source: t.Source.config(), Target: t.Target.config(),
		SourceReplica: t.Source.replica(), TargetReplica: t.Target.replica(), Schemas: []string{copyDatabase}})
}

// report is all that was found.
type report struct{ sidebyside.Report }

// Print writes the report for people.
func (r *report) Print(out io.Writer) error {
	return r.Report.Print(out, sidebyside.Words{Peer: "mydumper", Tuning: fmt.Sprintf("%d threads for mydumper and myloader, %d copies for dhow", mariadb.DefaultCopies, mariadb.DefaultCopies)})
}

// measure lets the rivals copy the shapes that were asked for.
func measure(ctx context.Context, o sidebyside.Options, log io.Writer) (sidebyside.Printer, error) {
	rep := &report{sidebyside.NewReport(ctx, o, "mariadbd", "mydumper")}
	l, err := openLab(ctx, log)
	if err != nil {
		return nil, err
	}
	defer l.Close(ctx)
	for _, s := range o.Shapes {
		r, err := copyRace(ctx, l, s, o)
		if err != nil {
			return nil, fmt.Errorf("shape %s: %w", s.Name, err)
		}
		rep.Copies = append(rep.Copies, *r)
	}
	rep.Conclude()
	return rep, nil
}
