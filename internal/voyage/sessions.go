package voyage

import (
	"fmt"

	"dhow/internal/estate"
	"dhow/internal/move/postgres"
)

// How many sessions a move opens to one server, besides one for each parallel
// copy and each lane. limits.connections bounds the sum, so they are counted
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

// sessionsWithin turns an estate's limits into a mover's; limits.connections
// lowers the copies and the lanes so that all sessions of a move fit into it.
func sessionsWithin(l estate.Limits) (postgres.Limits, error) {
	p := postgres.Limits{Copies: l.Copies, Lanes: l.Lanes, ChunkBytes: int64(l.Chunk), RowsPerSecond: l.RowsPerSecond, WALWarn: int64(l.WALWarn), WALStop: int64(l.WALStop)}
	if p.Copies == 0 {
		p.Copies = postgres.DefaultCopies
	}
	if p.Lanes == 0 {
		p.Lanes = postgres.DefaultLanes
	}
	if l.Connections == 0 {
		return p, nil
	}
	if l.Connections < fewestConnections {
		return p, fmt.Errorf("limits.connections is %d, and a move needs %d to each server at the least: raise it", l.Connections, fewestConnections)
	}
	free := l.Connections - besideBoth
	p.Copies = min(p.Copies, l.Connections-besideCopies, max(free/2, free-p.Lanes))
	p.Lanes = min(p.Lanes, free-p.Copies)
	return p, nil
}
