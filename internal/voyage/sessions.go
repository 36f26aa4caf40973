package voyage

import (
	"fmt"

	"dhow/internal/estate"
	"dhow/internal/move/mariadb"
	"dhow/internal/move/postgres"
	"dhow/internal/move/redis"
)

// How many sessions a move opens to one server, besides one for each parallel
// copy and each lane, by the engine; PostgreSQL's first. limits.connections bounds the sum, so they are counted
// here, at the moments when they are the most.
const (
	// besideCopies is at the estate's target after the cutover, from which the way
	// back now streams: three of the stream (one receives, one watches the log, one
	// the schema), the pinned snapshot, and one more of a comparison, which opens
	// as many sessions as there are copies.
	besideCopies = 5
	// besideBoth is at the side where the lanes apply, while both sides are
	// compared: the move's lock, two of the stream (one follows the positions, one
	// watches the schema), the pinned snapshot, and one more of the comparison.
	besideBoth = 5
	// fewestConnections leaves room for two copies, which a comparison needs, and
	// three lanes; so much take the spare sessions of a cutover beside the stream.
	fewestConnections = besideBoth + 2 + 3

	// besideMariaDB is at either server of MariaDB during a cutover: the locks of
	// the fence, one that looks for who holds them, the state with the marker, one
	// that watches the replication, the pinned snapshot, and one more of the comparison,
	// which opens as many sessions as there are copies.
	besideMariaDB = 6
	// fewestMariaDB leaves room for two copies.
	fewestMariaDB = besideMariaDB + 2
	// fewestRedis is what a move of Redis holds to each server at the most, by
	// nature: the stream, the connections that it is applied over, the pause, the state,
	// and the two of a comparison.
	fewestRedis = 10
)

// merge lets a database's own limits override the estate's.
func merge(own, all estate.Limits) estate.Limits {
	return estate.Limits{
		Copies:        first(own.Copies, all.Copies),
		Lanes:         first(own.Lanes, all.Lanes),
		Chunk:         first(own.Chunk, all.Chunk),
		RowsPerSecond: first(own.RowsPerSecond, all.RowsPerSecond),
		Connections:   first(own.Connections, all.Connections),
		WALWarn:       first(own.WALWarn, all.WALWarn),
		WALStop:       first(own.WALStop, all.WALStop),
	}
}

func first[T int | estate.Size](own, all T) T {
	if own != 0 {
		return own
	}
	return all
}

// within says whether limits.connections, where it is given, is enough.
func within(l estate.Limits, fewest int) error {
	if l.Connections != 0 && l.Connections < fewest {
		return fmt.Errorf("limits.connections is %d, and a move needs %d to each server at the least: raise it", l.Connections, fewest)
	}
	return nil
}

// mariadbWithin turns an estate's limits into a MariaDB mover's; limits.connections
// lowers the copies.
func mariadbWithin(l estate.Limits) (mariadb.Limits, error) {
	m := mariadb.Limits{Copies: l.Copies, ChunkBytes: int64(l.Chunk), RowsPerSecond: l.RowsPerSecond}
	if m.Copies == 0 {
		m.Copies = mariadb.DefaultCopies
	}
	if err := within(l, fewestMariaDB); err != nil || l.Connections == 0 {
		return m, err
	}
	m.Copies = min(m.Copies, l.Connections-besideMariaDB)
	return m, nil
}

// redisWithin turns an estate's limits into a Redis mover's. Its connections do
// not depend on how much there is to move.
func redisWithin(l estate.Limits) (redis.Limits, error) {
	return redis.Limits{KeysPerSecond: l.RowsPerSecond}, within(l, fewestRedis)
}

// postgresWithin turns an estate's limits into a PostgreSQL mover's; limits.connections
// lowers the copies and the lanes so that all sessions of a move fit into it.
func postgresWithin(l estate.Limits) (postgres.Limits, error) {
	p := postgres.Limits{Copies: l.Copies, Lanes: l.Lanes, ChunkBytes: int64(l.Chunk), RowsPerSecond: l.RowsPerSecond, WALWarn: int64(l.WALWarn), WALStop: int64(l.WALStop)}
	if p.Copies == 0 {
		p.Copies = postgres.DefaultCopies
	}
	if p.Lanes == 0 {
		p.Lanes = postgres.DefaultLanes
	}
	if err := within(l, fewestConnections); err != nil || l.Connections == 0 {
		return p, err
	}
	free := l.Connections - besideBoth
	p.Copies = min(p.Copies, l.Connections-besideCopies, max(free/2, free-p.Lanes))
	p.Lanes = min(p.Lanes, free-p.Copies)
	return p, nil
}
