package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/bench/sidebyside"
	"dhow/internal/mariadbserver"
)

const (
	// calmTimeout bounds the wait until a server has written all that is dirty.
	calmTimeout = time.Minute
	// lookEvery is how often something is looked for.
	lookEvery = 50 * time.Millisecond
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
	*sidebyside.Lab[*mariadbserver.Server]
}

func openLab(ctx context.Context, log io.Writer) (lab, error) {
	l, err := sidebyside.OpenLab(ctx, log, func(ctx context.Context) (*mariadbserver.Server, error) {
		return mariadbserver.Start(ctx, mariadbserver.Options{Settings: settings})
	})
	return lab{l}, err
}

// fresh makes the target as if no copy had been.
func (l lab) fresh(ctx context.Context) error {
	return l.Target.Exec(ctx, "mysql", "STOP ALL SLAVES; DROP DATABASE IF EXISTS "+copyDatabase+"; DROP DATABASE IF EXISTS dhow; RESET MASTER")
}

// forget removes a move's replication, which only our turns make.
func (l lab) forget(ctx context.Context) error {
	return l.Target.Exec(ctx, "mysql", "STOP ALL SLAVES; RESET SLAVE 'dhow_bench_copied' ALL")
}

// calm ends each turn's left-overs: what is dirty goes to the disk now.
func (l lab) calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, calmTimeout)
	defer cancel()
	for _, s := range []*mariadbserver.Server{l.Source, l.Target} {
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

// read computes a database's content; with the rows of each table, its indexes.
func read(ctx context.Context, s *mariadbserver.Server) (sidebyside.Content, error) {
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
	c := sidebyside.Content{}
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
