package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// replication is the target server's own replication from the source, as we steer
// it: by statements, or by the procedures of a managed server. All of it may be
// called again.
type replication interface {
	// point tells it where the source is and from which GTID position to read. It stands still then.
	point(ctx context.Context, q querier, gtid string) error
	// connect tells it where the source is in today's words; the position stays.
	connect(ctx context.Context, q querier) error
	// filter chooses the tables whose changes are applied; nil means the move's.
	filter(ctx context.Context, q querier, only []Name) error
	// filtered says whether the tables chosen are those.
	filtered(ctx context.Context, q querier, only []Name) (bool, error)
	// start lets it run; until is a GTID position at which it stops by itself, or empty.
	start(ctx context.Context, q querier, until string) error
	stop(ctx context.Context, q querier) error
	// remove forgets it.
	remove(ctx context.Context, q querier) error
	// status is how it goes; nil when the server knows no such replication.
	status(ctx context.Context, q querier) (*replicaStatus, error)
}

// replication finds out how the target's replication is steered.
func (m *Mover) replication(ctx context.Context, q querier) (replication, error) {
	var n int
	err := q.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.routines WHERE routine_schema = 'mysql' AND routine_name = 'rds_set_external_master_gtid'").Scan(&n)
	if err != nil {
		return nil, fmt.Errorf("ask the target how its replication is steered: %w", err)
	}
	if n > 0 {
		return &rdsReplication{m}, nil
	}
	return &nativeReplication{m}, nil
}

// Numbers of the replication's errors.
const (
	errNoConnection     = 1617 // there is no replication of that name
	errSlaveRunning     = 1198
	errSlaveNotRunning  = 1199
	errAlreadyRunning   = 1254
	errGTIDConflict     = 1946
	errGTIDConflictOwn  = 1947
	errBinlogGone       = 1236
	errDuplicateKey     = 1062
	errRowNotFound      = 1032
	errSameServerID     = 1593
	errPasswordRefused  = 1045
	errOutOfOrder       = 1950
	errNoAccessToMaster = 1130
)

// nativeReplication is a replication connection of the stream's name.
type nativeReplication struct{ m *Mover }

func (r *nativeReplication) name() string { return quoteText(r.m.stream) }

func (r *nativeReplication) point(ctx context.Context, q querier, gtid string) error {
	if err := r.stop(ctx, q); err != nil {
		return err
	}
	position, err := r.position(ctx, q, gtid)
	if err != nil {
		return err
	}
	if _, err := q.ExecContext(ctx, "SET GLOBAL gtid_slave_pos = ?", position); err != nil {
		if isNumber(err, errSlaveRunning, errAlreadyRunning) {
			return &move.Refused{Reason: "the target replicates from another server too, and takes no new position while it does", Fix: "STOP ALL SLAVES on the target until this move has begun its stream, then start them again"}
		}
		if isNumber(err, errGTIDConflict, errGTIDConflictOwn) {
			return conflict(err)
		}
		return fmt.Errorf("set the position from which the target reads: %w", err)
	}
	return r.connect(ctx, q)
}

func conflict(err error) error {
	return &move.Refused{Reason: fmt.Sprintf("the target's own binary log is ahead of the source's in the same domain: %v", err),
		Fix: "RESET MASTER on the target, which must not serve anybody yet, or give it a gtid_domain_id of its own"}
}

// connect tells the target where the source is, in the words of today: an address
// or a password may have changed. Its position stays.
func (r *nativeReplication) connect(ctx context.Context, q querier) error {
	from := r.m.cfg.SourceReplica
	tls := "MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0"
	if from.TLS {
		tls = "MASTER_SSL = 1, MASTER_SSL_VERIFY_SERVER_CERT = 1"
		if from.CA != "" {
			tls += ", MASTER_SSL_CA = " + quoteText(from.CA)
		}
	}
	_, err := q.ExecContext(ctx, fmt.Sprintf("CHANGE MASTER %s TO MASTER_HOST = %s, MASTER_PORT = %d, MASTER_USER = %s, MASTER_PASSWORD = %s, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1, %s, MASTER_USE_GTID = slave_pos",
		r.name(), quoteText(from.Host), from.Port, quoteText(from.User), quoteText(from.Password), tls))
	if err != nil {
		return fmt.Errorf("tell the target where the source is: %w", withoutValues(err))
	}
	return nil
}

// position is a GTID position joined with what the target has of other servers.
func (r *nativeReplication) position(ctx context.Context, q querier, gtid string) (string, error) {
	var now, own string
	var strict bool
	if err := q.QueryRowContext(ctx, "SELECT @@global.gtid_slave_pos, @@global.gtid_binlog_pos, @@global.gtid_strict_mode").Scan(&now, &own, &strict); err != nil {
		return "", fmt.Errorf("ask the target for its positions: %w", err)
	}
	ahead := slices.ContainsFunc(splitGTIDs(own), func(g gtidPart) bool {
		return slices.ContainsFunc(splitGTIDs(gtid), func(s gtidPart) bool { return s.domain == g.domain && g.sequence > s.sequence })
	})
	if strict && ahead {
		return "", conflict(fmt.Errorf("it stands at %s, the stream begins at %s", own, gtid))
	}
	var others int
	err := scan(ctx, q, "SHOW ALL SLAVES STATUS", func(func(...any) error) error { others++; return nil })
	if err != nil {
		return "", fmt.Errorf("ask the target for its replications: %w", err)
	}
	if has, err := r.status(ctx, q); err != nil {
		return "", err
	} else if has != nil {
		others--
	}
	// What the target wrote by itself, in domains of its own, stays where it is: a
	// strict server takes no position without them.
	keep := splitGTIDs(own)
	if others > 0 {
		keep = append(splitGTIDs(now), keep...)
	}
	parts := splitGTIDs(gtid)
	for _, g := range keep {
		if !slices.ContainsFunc(parts, func(p gtidPart) bool { return p.domain == g.domain }) {
			parts = append(parts, g)
		}
	}
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.text)
	}
	return strings.Join(texts, ","), nil
}

// gtidPart is one domain's part of a position.
type gtidPart struct {
	domain   string
	sequence uint64
	text     string
}

func splitGTIDs(position string) []gtidPart {
	var parts []gtidPart
	for text := range strings.SplitSeq(position, ",") {
		words := strings.Split(strings.TrimSpace(text), "-")
		if len(words) != 3 {
			continue
		}
		n, err := strconv.ParseUint(words[2], 10, 64)
		if err != nil {
			continue // no position that a server writes
		}
		parts = append(parts, gtidPart{words[0], n, strings.TrimSpace(text)})
	}
	return parts
}

// pattern writes a name as the filters of replication match it.
func pattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(name)
}

// filters are what the target applies: the moving databases and the marker, or only some tables.
func (r *nativeReplication) filters(only []Name) (do, ignore string) {
	var list []string
	if only != nil {
		for _, n := range only {
			list = append(list, pattern(n.Schema)+"."+pattern(n.Name))
		}
		return strings.Join(append(list, "dhow.marker"), ","), ""
	}
	var not []string
	for _, n := range r.m.cfg.Exclude {
		not = append(not, pattern(n))
	}
	if len(r.m.cfg.Schemas) == 0 {
		not = append(not, "mysql.%", "sys.%", "performance\\_schema.%", "dhow.stream", "dhow.chunk", "dhow.fence", "dhow.gate")
		return "", strings.Join(not, ",")
	}
	for _, s := range r.m.cfg.Schemas {
		list = append(list, pattern(s)+".%")
	}
	return strings.Join(append(list, "dhow.marker"), ","), strings.Join(not, ",")
}

func (r *nativeReplication) filter(ctx context.Context, q querier, only []Name) error {
	do, ignore := r.filters(only)
	if _, err := q.ExecContext(ctx, "SET SESSION default_master_connection = "+r.name()); err != nil {
		return fmt.Errorf("choose what the target applies: %w", err)
	}
	for variable, value := range map[string]string{"replicate_wild_do_table": do, "replicate_wild_ignore_table": ignore} {
		if _, err := q.ExecContext(ctx, "SET GLOBAL "+variable+" = "+quoteText(value)); err != nil {
			return fmt.Errorf("choose what the target applies: %w", err)
		}
	}
	return nil
}

func (r *nativeReplication) filtered(ctx context.Context, q querier, only []Name) (bool, error) {
	s, err := r.status(ctx, q)
	if err != nil || s == nil {
		return false, err
	}
	do, ignore := r.filters(only)
	return sameList(s.do, do) && sameList(s.ignore, ignore), nil
}

func sameList(a, b string) bool {
	x, y := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func (r *nativeReplication) start(ctx context.Context, q querier, until string) error {
	sql := "START SLAVE " + r.name()
	if until != "" {
		sql += " UNTIL master_gtid_pos = " + quoteText(until)
	}
	if _, err := q.ExecContext(ctx, sql); err != nil && !isNumber(err, errAlreadyRunning) {
		return fmt.Errorf("start the target's replication: %w", err)
	}
	return nil
}

func (r *nativeReplication) stop(ctx context.Context, q querier) error {
	if _, err := q.ExecContext(ctx, "STOP SLAVE "+r.name()); err != nil && !isNumber(err, errNoConnection, errSlaveNotRunning) {
		return fmt.Errorf("stop the target's replication: %w", err)
	}
	return nil
}

func (r *nativeReplication) remove(ctx context.Context, q querier) error {
	if err := r.stop(ctx, q); err != nil {
		return err
	}
	if _, err := q.ExecContext(ctx, "RESET SLAVE "+r.name()+" ALL"); err != nil && !isNumber(err, errNoConnection) {
		return fmt.Errorf("remove the target's replication: %w", err)
	}
	return nil
}

func (r *nativeReplication) status(ctx context.Context, q querier) (*replicaStatus, error) {
	s, err := readReplica(ctx, q, "SHOW SLAVE "+r.name()+" STATUS")
	if isNumber(err, errNoConnection) {
		return nil, nil
	}
	return s, err
}

// replicaStatus is what SHOW SLAVE STATUS tells.
type replicaStatus struct {
	host            string
	io, sql         string // Yes, No or Connecting
	ioNumber        int
	ioError         string
	sqlNumber       int
	sqlError        string
	lag             float64 // seconds; negative when the server does not know
	behind          int64   // bytes that are read and not applied, at least
	do, ignore      string
	readAt, applied string // positions in the source's log
}

// readReplica runs a SHOW SLAVE STATUS; nil when it has no row.
func readReplica(ctx context.Context, q querier, query string) (*replicaStatus, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("ask how the target's replication goes: %w", err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("ask how the target's replication goes: %w", err)
	}
	if !rows.Next() {
		return nil, rows.Err()
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, fmt.Errorf("ask how the target's replication goes: %w", err)
	}
	all := map[string]sql.NullString{}
	for i, n := range names {
		all[n] = values[i]
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(all[name].String, 10, 64) // the server wrote it
		return n
	}
	s := &replicaStatus{host: all["Master_Host"].String, io: all["Slave_IO_Running"].String, sql: all["Slave_SQL_Running"].String, ioNumber: int(number("Last_IO_Errno")), ioError: all["Last_IO_Error"].String,
		sqlNumber: int(number("Last_SQL_Errno")), sqlError: all["Last_SQL_Error"].String, lag: -1, do: all["Replicate_Wild_Do_Table"].String, ignore: all["Replicate_Wild_Ignore_Table"].String}
	if lag := all["Seconds_Behind_Master"]; lag.Valid {
		s.lag = float64(number("Seconds_Behind_Master"))
	}
	if all["Master_Log_File"] == all["Relay_Master_Log_File"] {
		s.behind = max(0, number("Read_Master_Log_Pos")-number("Exec_Master_Log_Pos"))
	} else {
		s.behind = number("Relay_Log_Space")
	}
	s.readAt = all["Master_Log_File"].String + ":" + all["Read_Master_Log_Pos"].String
	s.applied = all["Relay_Master_Log_File"].String + ":" + all["Exec_Master_Log_Pos"].String
	return s, rows.Err()
}

// eventTable is the table that an error of the applier names.
var eventTable = regexp.MustCompile(`on table ([^;]+);`)

// failed turns what stopped the replication into an error that says what to do; nil
// when nothing did. A row's values, which the server quotes, are left out.
func (s *replicaStatus) failed(m *Mover) error {
	if s.sqlNumber != 0 && s.sql != "Yes" {
		at := ""
		if t := eventTable.FindStringSubmatch(s.sqlError); t != nil {
			at = " at table " + t[1]
		}
		refused := &move.Refused{Reason: fmt.Sprintf("the target's replication stopped with error %d%s, behind position %s of the source's log", s.sqlNumber, at, s.applied)}
		switch s.sqlNumber {
		case errDuplicateKey, errRowNotFound:
			refused.Fix = "somebody wrote on the target: find the rows with `dhow verify`, undo what was written there and run `dhow replicate` again; or `dhow finish --abandon` and begin the move again"
		case errOutOfOrder:
			refused.Fix = "somebody wrote on the target and its binary log has left the source's order: undo what was written, set gtid_strict_mode = OFF on the target and run `dhow replicate` again"
		default:
			refused.Fix = fmt.Sprintf("look at SHOW SLAVE '%s' STATUS on the target; a statement that can not run there (a change of the schema made on both sides, a missing engine or right) must be made possible or be skipped, then run `dhow replicate` again", m.stream)
		}
		return refused
	}
	if s.io != "No" || s.ioNumber == 0 {
		return nil
	}
	refused := &move.Refused{Reason: fmt.Sprintf("the target can not read the source's log: error %d: %s", s.ioNumber, s.ioError)}
	switch s.ioNumber {
	case errBinlogGone:
		refused.Fix = "the source no longer keeps the log from where the target stands: keep it for longer (expire_logs_days, or binlog retention hours), then `dhow finish --abandon` and begin the move again"
	case errSameServerID:
		refused.Fix = "give both servers different values of server_id"
	default:
		refused.Fix = "mend what the target's server says, then run `dhow replicate` again"
	}
	return refused
}

// unconnected says why the target does not reach the source just now, or is empty.
func (s *replicaStatus) unconnected() string {
	if s.io == "Yes" || s.ioNumber == 0 {
		return ""
	}
	return fmt.Sprintf("the target does not reach the source: error %d: %s", s.ioNumber, s.ioError)
}
