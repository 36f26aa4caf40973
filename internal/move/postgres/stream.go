package postgres

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"dhow/internal/move"
)

const (
	// answerEvery is how often the source hears how far we are.
	answerEvery = 500 * time.Millisecond
	// receiveQuiet is the longest silence of a source that lives; it speaks at
	// least at half of its wal_sender_timeout, whose default is a minute.
	receiveQuiet = 2 * time.Minute
	// receiveBuffer is how much of the stream is read at once, in bytes: the source
	// sends each change by itself.
	receiveBuffer = 64 << 10
	// The reader rests after restAfter messages that came within restWithin.
	restAfter  = 20
	restWithin = 5 * time.Millisecond
	rest       = 3 * time.Millisecond
	// networkWrite bounds the writing of an answer.
	networkWrite = 10 * time.Second
)

// intake is one session's reader: it receives the stream and deals the changes
// out to the lanes.
type intake struct {
	r        *relay
	lanes    []*lane
	conn     net.Conn
	frontend *pgproto3.Frontend
	buffer   *bufio.Reader // what the frontend reads from
	write    sync.Mutex
	slab     slab

	catalog   *Catalog
	starts    map[Name]LSN
	relations map[uint32]*relation
	markerRel uint32
	ignored   map[uint32]bool
	dealing   dealing

	commit  LSN // of the transaction that is being received; 0 between two
	ordinal int64
	marker  int64 // seen in this transaction

	mu    sync.Mutex
	sent  LSN // the position that the source was told last; it never goes back
	ended LSN // the end of the last transaction that was received whole
}

// open connects both sides and starts the stream.
func (r *relay) open(ctx context.Context) (_ *intake, err error) {
	in := &intake{r: r, relations: map[uint32]*relation{}, ignored: map[uint32]bool{}}
	defer func() {
		if err != nil {
			in.close(ctx)
		}
	}()
	target, err := r.m.target(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, target)
	if err := r.m.endPredecessors(ctx, target); err != nil {
		return nil, err
	}
	if in.catalog, err = r.m.catalog(ctx, target); err != nil {
		return nil, err
	}
	if in.starts, err = tableStarts(ctx, target, r.name); err != nil {
		return nil, err
	}
	places, err := readPlaces(ctx, target, r.name, r.n, r.start)
	if err != nil {
		return nil, err
	}
	if in.dealing, err = readDealing(ctx, target, r.name, in.catalog, places); err != nil {
		return nil, err
	}
	for i, at := range places {
		s, err := newApplySession(ctx, r.m)
		if err != nil {
			return nil, err
		}
		in.lanes = append(in.lanes, newLane(r, i, s, at))
		if err := s.rowByRow(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.freeSlot(ctx); err != nil {
		return nil, err
	}
	cfg := r.m.cfg.Source.Copy()
	cfg.DialFunc = dial
	cfg.RuntimeParams = map[string]string{"replication": "database", "application_name": "dhow stream " + r.name}
	for k, v := range sessionSettings {
		if k != "statement_timeout" && k != "row_security" && k != "default_transaction_read_only" {
			cfg.RuntimeParams[k] = v
		}
	}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		in.buffer = bufio.NewReaderSize(r, receiveBuffer)
		return pgproto3.NewFrontend(in.buffer, w)
	}
	pg, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("open the change stream: %w", explainConnect(ctx, cfg, r.m.named("source"), err))
	}
	args := []string{"proto_version '1'", "publication_names '" + r.name + "'"}
	if err := pglogrepl.StartReplication(ctx, pg, r.slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: args}); err != nil {
		_ = pg.Close(ctx)
		return nil, fmt.Errorf("start the change stream from slot %s: %w", r.slot, err)
	}
	h, err := pg.Hijack()
	if err != nil {
		_ = pg.Close(ctx)
		return nil, fmt.Errorf("take over the connection of the change stream: %w", err)
	}
	in.conn, in.frontend = h.Conn, h.Frontend
	return in, nil
}

// freeSlot ends an older session of ours that still reads from the slot. The
// move's lock is ours, so it can only be one that has not noticed our death.
func (r *relay) freeSlot(ctx context.Context) error {
	conn, err := r.m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", r.slot).Scan(&exists); err != nil {
		return fmt.Errorf("look for slot %s: %w", r.slot, err)
	}
	if !exists {
		return &move.Refused{Reason: fmt.Sprintf("slot %s is gone from the source: the changes since cannot be had any more", r.slot), Fix: "run `dhow finish --abandon` and begin the move again"}
	}
	for {
		var active bool
		if err := conn.QueryRow(ctx, "SELECT count(pg_terminate_backend(active_pid)) > 0 FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", r.slot).Scan(&active); err != nil {
			return fmt.Errorf("end the old reader of slot %s: %w", r.slot, err)
		}
		if !active {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fenceRetry):
		}
	}
}

func (in *intake) close(ctx context.Context) {
	for _, l := range in.lanes {
		l.session.close(ctx)
	}
	if in.conn != nil {
		_ = in.conn.Close()
	}
}

// interrupt makes the reader's wait for the network end.
func (in *intake) interrupt() error { return in.conn.SetDeadline(time.Unix(1, 0)) }

// read receives the stream until it fails or ctx ends.
func (in *intake) read(ctx context.Context) error {
	var quiet, rested time.Time
	since := 0 // messages since it rested
	for {
		if in.frontend.ReadBufferLen() == 0 && in.buffer.Buffered() == 0 {
			if err := in.handOver(ctx); err != nil {
				return err
			}
			if since >= restAfter {
				// The source sends each change by itself, and wakes us for each. While
				// it has many, we let them gather: both have less to do.
				if now := time.Now(); now.Sub(rested) < restWithin {
					in.rest()
				}
				since, rested = 0, time.Now()
			}
		}
		since++
		if now := time.Now(); now.Sub(quiet) > receiveQuiet/4 {
			quiet = now
			if err := in.conn.SetReadDeadline(now.Add(receiveQuiet)); err != nil {
				return fmt.Errorf("receive the change stream: %w", err)
			}
			if ctx.Err() != nil { // interrupt may have come in between
				return ctx.Err()
			}
		}
		msg, err := in.frontend.Receive()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("receive the change stream: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if err := in.copyData(ctx, msg.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("the source ended the change stream: %w", withoutDetail(pgconn.ErrorResponseToPgError(msg)))
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return errors.New("the source ended the change stream")
		}
	}
}

// rest lets messages gather in the socket, and nobody be woken for one.
func (in *intake) rest() {
	in.lowWater(receiveBuffer)
	time.Sleep(rest)
	in.lowWater(1)
}

// lowWater sets from how many bytes on the socket counts as readable. Where that
// can not be set, messages gather all the same, and cost more.
func (in *intake) lowWater(bytes int) {
	conn := in.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a closed socket tells the next reader
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
}

// handOver lets all lanes begin with what they were given.
func (in *intake) handOver(ctx context.Context) error {
	for _, l := range in.lanes {
		if err := l.handOver(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	xlogHeader      = 25 // 'w', start, end, clock
	keepaliveLength = 18 // 'k', end, clock, reply wanted
)

func (in *intake) copyData(ctx context.Context, data []byte) error {
	switch {
	case len(data) >= xlogHeader && data[0] == pglogrepl.XLogDataByteID:
		in.heard(LSN(binary.BigEndian.Uint64(data[9:])))
		return in.message(ctx, data[xlogHeader:])
	case len(data) >= keepaliveLength && data[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		end := LSN(binary.BigEndian.Uint64(data[1:]))
		in.heard(end)
		if in.commit == 0 { // nothing of a transaction is outstanding before this position
			in.mu.Lock()
			in.ended = max(in.ended, end)
			in.mu.Unlock()
		}
		if data[17] == 1 {
			return in.reply()
		}
	}
	return nil
}

func (in *intake) heard(end LSN) {
	in.r.mu.Lock()
	in.r.received = max(in.r.received, end)
	in.r.mu.Unlock()
}

func (in *intake) message(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return errShort
	}
	switch data[0] {
	case 'I', 'U', 'D':
		return in.row(ctx, data)
	case 'B':
		msg, err := parseRare(data)
		if err != nil {
			return fmt.Errorf("read the begin of a transaction: %w", err)
		}
		b := msg.(*pglogrepl.BeginMessage)
		in.commit, in.ordinal, in.marker = LSN(b.FinalLSN), 0, 0
		in.r.mu.Lock()
		if in.r.behind.IsZero() {
			in.r.behind = b.CommitTime
		}
		in.r.mu.Unlock()
		return in.dealAnew(ctx)
	case 'C':
		msg, err := parseRare(data)
		if err != nil {
			return fmt.Errorf("read the end of a transaction: %w", err)
		}
		return in.committed(ctx, LSN(msg.(*pglogrepl.CommitMessage).TransactionEndLSN))
	case 'R':
		msg, err := parseRare(data)
		if err != nil {
			return fmt.Errorf("read a table's description: %w", err)
		}
		return in.describe(ctx, msg.(*pglogrepl.RelationMessage))
	case 'T':
		msg, err := parseRare(data)
		if err != nil {
			return fmt.Errorf("read a truncation: %w", err)
		}
		return in.truncate(ctx, msg.(*pglogrepl.TruncateMessage))
	}
	return nil // types and origins: nothing to do
}

// describe learns a table. pgoutput sends it before the table's first change
// and again after its definition has changed.
func (in *intake) describe(ctx context.Context, msg *pglogrepl.RelationMessage) error {
	name := Name{msg.Namespace, msg.RelationName}
	delete(in.ignored, msg.RelationID)
	if name == (Name{"dhow", "marker"}) {
		in.markerRel = msg.RelationID
		return nil
	}
	if name.Schema == "dhow" || slices.Contains(in.r.m.cfg.Exclude, name.String()) {
		in.ignored[msg.RelationID] = true
		return nil
	}
	rel, err := newRelation(msg, in.catalog, nil, in.starts)
	if err != nil {
		// Either side may have been changed since: look once more.
		var source *Catalog
		if in.catalog, source, err = in.catalogs(ctx); err != nil {
			return err
		}
		if in.catalog.table(name) == nil && source.table(name) == nil { // dropped, or renamed and copied again
			in.ignored[msg.RelationID] = true
			return nil
		}
		if rel, err = newRelation(msg, in.catalog, source, in.starts); err != nil {
			rel = &relation{table: &Table{Name: name}, start: in.starts[name], refused: err}
		}
	}
	if rel.refused == nil {
		if err := in.deal(ctx, rel); err != nil {
			return err
		}
	}
	if old := in.relations[msg.RelationID]; old != nil && (old.byKey != rel.byKey || !slices.Equal(old.key, rel.key)) {
		// Rows are dealt out by other columns from here on.
		if err := in.barrier(ctx); err != nil {
			return err
		}
	}
	in.relations[msg.RelationID] = rel
	return nil
}

// catalogs reads both sides' catalogs as they are now.
func (in *intake) catalogs(ctx context.Context) (target, source *Catalog, err error) {
	conn, err := in.r.m.target(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer hangUp(ctx, conn)
	if target, err = in.r.m.catalog(ctx, conn); err != nil {
		return nil, nil, err
	}
	other, err := in.r.m.source(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer hangUp(ctx, other)
	source, err = in.r.m.catalog(ctx, other)
	return target, source, err
}

func (in *intake) row(ctx context.Context, data []byte) error {
	m, err := parseRow(in.slab.clone(data), &in.slab) // the connection's buffer is used again
	if err != nil {
		return fmt.Errorf("read a change: %w", err)
	}
	if m.relation == in.markerRel {
		in.seeMarker(m)
		return nil
	}
	in.ordinal++
	if in.ignored[m.relation] {
		return nil
	}
	rel := in.relations[m.relation]
	if rel == nil {
		return fmt.Errorf("a change of table %d, which was not described", m.relation)
	}
	if in.commit < rel.start {
		return nil // the copy holds it
	}
	if rel.refused != nil {
		return rel.refused
	}
	for _, r := range []row{m.old, m.new} {
		if r != nil && len(r) != len(rel.columns) {
			return fmt.Errorf("a change of table %s has %d columns instead of %d", rel.table.Name, len(r), len(rel.columns))
		}
	}
	if m.kind == 'U' && m.old != nil {
		for _, k := range rel.key { // a key so large that it is not sent again
			if m.new[k].kind == datumUnchanged {
				m.new[k] = m.old[k]
			}
		}
	}
	c := in.slab.change()
	*c = change{rel: rel, msg: m, lsn: in.commit, ordinal: in.ordinal, bytes: len(data)}
	of := m.new
	if m.kind == 'D' {
		of = m.old
	}
	to := rel.lane(of, len(in.lanes))
	if keyChanged(c) {
		if from := rel.lane(m.old, len(in.lanes)); from != to {
			return in.alone(ctx, c)
		}
	}
	l := in.lanes[to]
	if !l.enqueued.before(c) {
		return nil // applied before a restart
	}
	return l.add(ctx, c)
}

// alone applies a change that concerns several lanes, when all are idle. Its
// position is the first lane's.
func (in *intake) alone(ctx context.Context, c *change) error {
	l := in.lanes[0]
	if !l.enqueued.before(c) {
		return nil
	}
	if err := in.barrier(ctx); err != nil {
		return err
	}
	if err := l.add(ctx, c); err != nil {
		return err
	}
	return in.barrier(ctx)
}

// barrier returns when all lanes have applied all they were given.
func (in *intake) barrier(ctx context.Context) error {
	if err := in.handOver(ctx); err != nil {
		return err
	}
	for _, l := range in.lanes {
		l.hasten()
	}
	for _, l := range in.lanes {
		if !l.wait() {
			return errors.New("a lane has failed")
		}
	}
	return ctx.Err()
}

func (in *intake) truncate(ctx context.Context, msg *pglogrepl.TruncateMessage) error {
	in.ordinal++
	t := &truncation{cascade: msg.Option&1 != 0, restart: msg.Option&2 != 0}
	for _, id := range msg.RelationIDs {
		if rel := in.relations[id]; rel != nil && in.commit >= rel.start {
			if rel.refused != nil {
				return rel.refused
			}
			t.relations = append(t.relations, rel)
		}
	}
	if len(t.relations) == 0 {
		return nil
	}
	return in.alone(ctx, &change{truncate: t, lsn: in.commit, ordinal: in.ordinal, bytes: 64})
}

// seeMarker remembers a marker of this stream until its transaction has ended.
func (in *intake) seeMarker(m rowMessage) {
	if len(m.new) >= 2 && string(m.new[0].text) == in.r.name {
		if n, err := strconv.ParseInt(string(m.new[1].text), 10, 64); err == nil {
			in.marker = max(in.marker, n)
		}
	}
}

// committed ends a transaction.
func (in *intake) committed(ctx context.Context, end LSN) error {
	in.commit = 0
	in.mu.Lock()
	in.ended = max(in.ended, end)
	in.mu.Unlock()
	if in.marker == 0 {
		return nil
	}
	if err := in.barrier(ctx); err != nil {
		return err
	}
	n := in.marker
	in.r.arrived(end, n)
	in.marker = 0
	if in.r.until > 0 && n >= in.r.until {
		return errArrived
	}
	return nil
}

// durable is the position up to which the target holds everything.
func (in *intake) durable() LSN {
	in.mu.Lock()
	at := in.ended
	in.mu.Unlock()
	for _, l := range in.lanes {
		at = min(at, l.bound(at))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sent = max(in.sent, at)
	return in.sent
}

// reply tells the source how far the target is; it may forget what is before.
func (in *intake) reply() error {
	at := in.durable()
	if at == 0 {
		return nil
	}
	in.r.arrived(at, 0)
	in.r.mu.Lock()
	if at >= in.r.received {
		in.r.behind = time.Time{}
	}
	in.r.mu.Unlock()
	buf := make([]byte, 0, 34)
	buf = append(buf, pglogrepl.StandbyStatusUpdateByteID)
	for range 3 { // written, flushed, applied
		buf = binary.BigEndian.AppendUint64(buf, uint64(at))
	}
	const epoch2000 = 946684800 * 1e6 // microseconds
	buf = binary.BigEndian.AppendUint64(buf, uint64(time.Now().UnixMicro()-epoch2000))
	buf = append(buf, 0)
	in.write.Lock()
	defer in.write.Unlock()
	if err := in.conn.SetWriteDeadline(time.Now().Add(networkWrite)); err != nil {
		return fmt.Errorf("answer the source: %w", err)
	}
	in.frontend.Send(&pgproto3.CopyData{Data: buf})
	if err := in.frontend.Flush(); err != nil {
		return fmt.Errorf("answer the source: %w", err)
	}
	return nil
}

// answer replies from time to time, however long the reader waits for a lane.
func (in *intake) answer(ctx context.Context) error {
	tick := time.NewTicker(answerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := in.reply(); err != nil {
				return err
			}
		}
	}
}

// tableStarts are the positions at which whole tables were copied, where that
// is exact for the table: all of its chunks were copied under one snapshot.
func tableStarts(ctx context.Context, conn *pgx.Conn, stream string) (map[Name]LSN, error) {
	rows, err := conn.Query(ctx, `SELECT schema_name, table_name, min(snapshot_lsn)::text FROM dhow.chunk WHERE stream = $1
		GROUP BY 1, 2 HAVING count(*) = count(snapshot_lsn) AND min(snapshot_lsn) = max(snapshot_lsn)`, stream)
	if err != nil {
		return nil, fmt.Errorf("read where the copy of each table stands: %w", err)
	}
	starts := map[Name]LSN{}
	var n Name
	var at LSN
	if _, err := pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &at}, func() error { starts[n] = at; return nil }); err != nil {
		return nil, fmt.Errorf("read where the copy of each table stands: %w", err)
	}
	return starts, nil
}
