package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier is what a session and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// maxStatements bounds a session's prepared statements; the rest are prepared anew.
const maxStatements = 1000

// applySession is a target session of the applier: it sends many statements in
// one round trip and keeps them prepared.
type applySession struct {
	conn     *pgx.Conn
	prepared map[string]string
}

// op is a statement with its parameters, or rows for COPY.
type op struct {
	sql    string
	params [][]byte
	binary bool // the parameters are binary text[]; otherwise single texts
	// rows that the statement must touch; negative: whatever it touches
	expect  int64
	copied  []byte // rows for COPY FROM STDIN; then sql is the COPY
	inserts int    // rows that it adds, where they are many
}

func newApplySession(ctx context.Context, m *Mover) (*applySession, error) {
	conn, err := m.target(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET session_replication_role = replica; "+m.writerName()); err != nil {
		hangUp(ctx, conn)
		return nil, fmt.Errorf("become a replica on the target (the user needs the right to set session_replication_role): %w", err)
	}
	return &applySession{conn: conn, prepared: map[string]string{}}, nil
}

// rowByRow makes the planner find each row of a set by its index: no plan that is
// good for a small table, or for a small set, reads a large table whole. Plans
// are made once, for sets of any size.
func (s *applySession) rowByRow(ctx context.Context) error {
	const settings = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
	if err := s.conn.PgConn().Exec(ctx, settings).Close(); err != nil {
		return fmt.Errorf("prepare the target's session: %w", err)
	}
	return nil
}

func (s *applySession) close(ctx context.Context) { hangUp(ctx, s.conn) }

// mismatch says that a statement touched other rows than it should have.
type mismatch struct{ want, got int64 }

func (e *mismatch) Error() string {
	return fmt.Sprintf("%d rows were touched instead of %d", e.got, e.want)
}

// run sends statements in as few round trips as possible and checks what they
// touched. After an error the caller rolls back.
func (s *applySession) run(ctx context.Context, ops []op) error {
	pg := s.conn.PgConn()
	for i := range ops {
		if err := s.prepare(ctx, &ops[i]); err != nil {
			return err
		}
	}
	for len(ops) > 0 {
		if ops[0].copied != nil {
			if _, err := pg.CopyFrom(ctx, bytes.NewReader(ops[0].copied), ops[0].sql); err != nil {
				return err
			}
			ops = ops[1:]
			continue
		}
		n := 0
		for n < len(ops) && ops[n].copied == nil {
			n++
		}
		if err := s.pipeline(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (s *applySession) prepare(ctx context.Context, o *op) error {
	if o.copied != nil || len(o.params) == 0 || s.prepared[o.sql] != "" {
		return nil
	}
	if len(s.prepared) >= maxStatements {
		if err := s.conn.PgConn().Exec(ctx, "DEALLOCATE ALL").Close(); err != nil {
			return fmt.Errorf("forget prepared statements: %w", err)
		}
		s.prepared = map[string]string{}
	}
	name := "dhow" + strconv.Itoa(len(s.prepared))
	if _, err := s.conn.PgConn().Prepare(ctx, name, o.sql, nil); err != nil {
		return err
	}
	s.prepared[o.sql] = name
	return nil
}

// formats of parameters.
var (
	formatBinary = []int16{1}
	formatText   = []int16{0}
)

func (s *applySession) pipeline(ctx context.Context, ops []op) (err error) {
	p := s.conn.PgConn().StartPipeline(ctx)
	defer func() {
		if cerr := p.Close(); err == nil {
			err = cerr
		}
	}()
	for _, o := range ops {
		if len(o.params) == 0 {
			p.SendQueryParams(o.sql, nil, nil, nil, nil)
			continue
		}
		format := formatText
		if o.binary {
			format = formatBinary
		}
		p.SendQueryPrepared(s.prepared[o.sql], o.params, format, nil)
	}
	if err := p.Sync(); err != nil {
		return err
	}
	for _, o := range ops {
		res, err := p.GetResults()
		if err != nil {
			return err
		}
		reader, ok := res.(*pgconn.ResultReader)
		if !ok {
			return errors.New("the server's answers are out of step")
		}
		tag, err := reader.Close()
		if err != nil {
			return err
		}
		if o.expect >= 0 && tag.RowsAffected() != o.expect {
			return &mismatch{want: o.expect, got: tag.RowsAffected()}
		}
	}
	_, err = p.GetResults() // the sync's own answer
	return err
}
