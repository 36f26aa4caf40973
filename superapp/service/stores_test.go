package service

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

func TestMariaDBConfig(t *testing.T) {
	c, err := MariaDBConfig("mariadb://cards:s%2Fcret@db.example:3307/cards?tls=true", "MARIADB_URL")
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "cards" || c.Passwd != "s/cret" || c.Addr != "db.example:3307" || c.DBName != "cards" || c.TLSConfig != "true" || !c.ParseTime {
		t.Errorf("got user %q, address %q, database %q, tls %q", c.User, c.Addr, c.DBName, c.TLSConfig)
	}
	if c, err := MariaDBConfig("mariadb://u:p@h/d", "X"); err != nil || c.Addr != "h:3306" {
		t.Errorf("without a port: %v", err)
	}
	for _, bad := range []string{"", "mariadb://secret@", "postgres://u:secret@h/d", "mariadb://h/d", "mariadb://u:secret@h", "mariadb://u:secret@h:port/d"} {
		if _, err := MariaDBConfig(bad, "MARIADB_URL"); err == nil || !strings.Contains(err.Error(), "MARIADB_URL is no connection string") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRedisAddress(t *testing.T) {
	for text, want := range map[string]string{"": "REDIS_URL is not set", "http://:secret@h": "REDIS_URL is no connection string", "redis://:secret@h:port": "REDIS_URL is no connection string"} {
		t.Setenv("REDIS_URL", text)
		if _, err := openRedis("x", 1); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// saidError is an error that a Redis server sent.
type saidError string

func (e saidError) Error() string { return string(e) }
func (saidError) RedisError()     {}

func TestKindsOfErrors(t *testing.T) {
	maria := func(n uint16) error { return fmt.Errorf("x: %w", &mysql.MySQLError{Number: n}) }
	for name, c := range map[string]struct {
		err                       error
		duplicate, conflict, away bool
	}{
		"a defect":               {errors.New("x"), false, false, false},
		"postgres duplicate":     {&pgconn.PgError{Code: "23505"}, true, false, false},
		"postgres serialization": {&pgconn.PgError{Code: "40001"}, false, true, true},
		"postgres read only":     {&pgconn.PgError{Code: "25006"}, false, false, true},
		"postgres syntax":        {&pgconn.PgError{Code: "42601"}, false, false, false},
		"mariadb duplicate":      {maria(1062), true, false, false},
		"mariadb deadlock":       {maria(1213), false, true, true},
		"mariadb lock wait":      {maria(1205), false, true, true},
		"mariadb read only":      {maria(1290), false, false, true},
		"mariadb no table":       {maria(1146), false, false, true},
		"mariadb syntax":         {maria(1064), false, false, false},
		"mariadb gone":           {fmt.Errorf("x: %w", driver.ErrBadConn), false, false, true},
		"redis loading":          {saidError("LOADING Redis is loading the dataset in memory"), false, false, true},
		"redis read only":        {saidError("READONLY You can't write against a read only replica."), false, false, true},
		"redis wrong type":       {saidError("WRONGTYPE Operation against a key"), false, false, false},
		"redis nothing there":    {redis.Nil, false, false, false},
		"redis closed":           {redis.ErrClosed, false, false, true},
	} {
		if Duplicate(c.err) != c.duplicate || Conflict(c.err) != c.conflict || Away(c.err) != c.away {
			t.Errorf("%s: duplicate %v, conflict %v, away %v", name, Duplicate(c.err), Conflict(c.err), Away(c.err))
		}
	}
}

func TestURLFlag(t *testing.T) {
	for text, ok := range map[string]bool{"http://127.0.0.1:1": true, "https://h": true, "": false, "ftp://h": false, "http://": false, "h:1": false, "%": false} {
		u := URL{text}
		if err := u.Check("x-url"); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestGrantsNameTheRole(t *testing.T) {
	got := Schema{Grants: "GRANT SELECT ON t TO {{role}};"}.grants("GRANT SELECT ON i TO {{role}};", `"a"`)
	if got != `GRANT SELECT ON i TO "a";GRANT SELECT ON t TO "a";` {
		t.Error(got)
	}
}
