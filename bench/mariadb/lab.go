package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
)

const (
	// stopTimeout bounds the end of the servers.
	stopTimeout = time.Minute
	// calmTimeout bounds the wait until a server has written all that is dirty.
	calmTimeout = time.Minute
	// lookEvery is how often something is looked for.
	lookEvery = 50 * time.Millisecond
	// clockTicks are the kernel's units of a process's CPU time in a second.
	clockTicks = 100
	// readAtMost bounds the reading of one database's checksums.
	readAtMost = 10 * time.Minute
)

// settings are both servers' alike, and those of a server that is meant to take a
// large load: durable, with memory, and with room for the log so that it is not
// full in the middle of one rival's turn.
var settings = map[string]string{
	"innodb_flush_log_at_trx_commit": "1",
	"innodb_buffer_pool_size":        "1G",
	"innodb_log_file_size":           "2G",
	"innodb_doublewrite":             "ON",
	"innodb_io_capacity":             "5000", // the disk's, not that of 2010: 200
	"innodb_io_capacity_max":         "20000",
	"max_allowed_packet":             "256M",
	"event_scheduler":                "OFF",
	"innodb_lock_wait_timeout":       "600", // myloader's threads wait for one another
}

// lab is a source and a target server.
type lab struct {
	source, target *mariadbserver.Server
	log            io.Writer
	began          time.Time
}

func openLab(ctx context.Context, log io.Writer) (*lab, error) {
	l := &lab{log: log, began: time.Now()}
	for _, s := range []**mariadbserver.Server{&l.source, &l.target} {
		var err error
		if *s, err = mariadbserver.Start(ctx, mariadbserver.Options{Settings: settings}); err != nil {
			l.close(ctx)
			return nil, err
		}
	}
	return l, nil
}

func (l *lab) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, s := range []*mariadbserver.Server{l.source, l.target} {
		if s != nil {
			if err := s.Stop(ctx); err != nil {
				l.say("stop a server: %v", err)
			}
		}
	}
}

// say tells what goes on, with the time since the start.
func (l *lab) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.log, "%6.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...)) // whoever is gone reads no progress
}

// fresh makes the target as if no copy had been.
func (l *lab) fresh(ctx context.Context) error {
	return l.target.Exec(ctx, "mysql", "STOP ALL SLAVES; DROP DATABASE IF EXISTS "+copyDatabase+"; DROP DATABASE IF EXISTS dhow; RESET MASTER")
}

// forget removes a move's replication, which only our turns make.
func (l *lab) forget(ctx context.Context) error {
	return l.target.Exec(ctx, "mysql", "STOP ALL SLAVES; RESET SLAVE 'dhow_bench_copied' ALL")
}

// calm ends each turn's left-overs: what is dirty goes to the disk now.
func (l *lab) calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, calmTimeout)
	defer cancel()
	for _, s := range []*mariadbserver.Server{l.source, l.target} {
		db, err := connect(s, "mysql")
		if err != nil {
			return err
		}
		err = written(ctx, db)
		_ = db.Close() // nothing is written behind the answer
		if err != nil {
			return fmt.Errorf("wait for a server to write what is dirty: %w", err)
		}
	}
	return nil
}

func written(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, innodb_max_dirty_pages_pct = 0"); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for pages := 1; pages > 0; {
		var name string
		if err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").Scan(&name, &pages); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	_, err := db.ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = 90")
	return err
}

// connect opens a pool as the superuser.
func connect(s *mariadbserver.Server, database string) (*sql.DB, error) {
	c := endpointOf(s).config()
	c.DBName = database
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", database, err)
	}
	return sql.OpenDB(connector), nil
}

// content is a database's tables: each one's number of rows, checksum and indexes.
type content map[string]string

// read computes a database's content.
func read(ctx context.Context, s *mariadbserver.Server) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, readAtMost)
	defer cancel()
	db, err := connect(s, copyDatabase)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // nothing is written behind the answer
	indexes, err := pairs(ctx, db, `SELECT t.table_name, CONCAT((SELECT COUNT(*) FROM information_schema.statistics s WHERE s.table_schema = t.table_schema AND s.table_name = t.table_name), ' ',
		(SELECT COUNT(*) FROM information_schema.referential_constraints r WHERE r.constraint_schema = t.table_schema AND r.table_name = t.table_name)) FROM information_schema.tables t WHERE t.table_schema = '`+copyDatabase+"'")
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	c := content{}
	for name, has := range indexes {
		sum, err := pairs(ctx, db, "CHECKSUM TABLE `"+name+"` EXTENDED")
		if err != nil {
			return nil, fmt.Errorf("read table %s: %w", name, err)
		}
		count, err := pairs(ctx, db, "SELECT 'rows', COUNT(*) FROM `"+name+"`")
		if err != nil {
			return nil, fmt.Errorf("count table %s: %w", name, err)
		}
		c[name] = count["rows"] + " rows, checksum " + sum[copyDatabase+"."+name] + ", indexes and foreign keys " + has
	}
	return c, nil
}

// pairs are the rows of a query of two columns.
func pairs(ctx context.Context, db *sql.DB, query string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := map[string]string{}
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		list[key] = value
	}
	return list, rows.Err()
}

// rows counts them all.
func (c content) rows() (n int64) {
	for _, sum := range c {
		count, _, _ := strings.Cut(sum, " ")
		of, _ := strconv.ParseInt(count, 10, 64) // read wrote it
		n += of
	}
	return n
}

// same says what differs.
func (c content) same(other content) error {
	if len(c) != len(other) {
		return fmt.Errorf("%d tables became %d", len(c), len(other))
	}
	for name, sum := range c {
		if other[name] != sum {
			return fmt.Errorf("table %s differs: %s became %s", name, sum, other[name])
		}
	}
	return nil
}

// cpu is the CPU time, in seconds, that a server's process has used so far.
func cpu(s *mariadbserver.Server) float64 {
	const user, system = 11, 12
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/stat")
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) <= system {
		return 0
	}
	sum := 0.0
	for _, at := range []int{user, system} {
		n, _ := strconv.ParseFloat(f[at], 64) // the kernel wrote it
		sum += n
	}
	return sum / clockTicks
}
