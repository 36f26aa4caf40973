package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// This file holds everything that differs between PostgreSQL's versions, so
// that a new one is met in one place.

// The supported major versions.
const (
	oldestVersion = 13
	newestVersion = 17
)

// sessionSettings make every server print values alike, and keep a server's own
// defaults (timeouts, read-only sessions) from stopping the move.
var sessionSettings = map[string]string{
	"DateStyle":                           "ISO, YMD",
	"IntervalStyle":                       "postgres",
	"TimeZone":                            "UTC",
	"bytea_output":                        "hex",
	"extra_float_digits":                  "3",
	"lc_monetary":                         "C",
	"xmloption":                           "content",
	"client_encoding":                     "UTF8",
	"search_path":                         "pg_catalog",
	"row_security":                        "off", // an error rather than missing rows
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"default_transaction_read_only":       "off",
	"synchronous_commit":                  "local",
}

// version is a server's version, as major and as PG_VERSION_NUM.
type version struct {
	major  int
	number int
}

func serverVersion(ctx context.Context, conn *pgx.Conn) (version, error) {
	var v version
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&v.number); err != nil {
		return v, fmt.Errorf("read the server's version: %w", err)
	}
	v.major = v.number / 10000
	return v, nil
}

// supported says whether this program knows the version.
func (v version) supported() bool { return v.major >= oldestVersion && v.major <= newestVersion }

// tidRangeScan: a range of ctid is read without reading the whole table.
func (v version) tidRangeScan() bool { return v.major >= 14 }

// setParameterGrant: the right to set session_replication_role can be granted.
func (v version) setParameterGrant() bool { return v.major >= 15 }

// icuDatabases: a database may sort by ICU.
func (v version) icuDatabases() bool { return v.major >= 15 }
