package cli

import (
	"cmp"
	"fmt"

	"dhow/internal/estate"
	"dhow/internal/move"
)

// engineOf is a database's engine, as the estate that was opened says.
func (a *app) engineOf(database string) estate.Engine {
	return cmp.Or(a.engines[database], estate.PostgreSQL)
}

// noun is what an engine's databases are made of, one of it.
func noun(e estate.Engine) string {
	if e == estate.Redis {
		return "key"
	}
	return "row"
}

// part is what holds an engine's rows or keys.
func part(e estate.Engine) string {
	if e == estate.Redis {
		return "key space"
	}
	return "table"
}

// lagging is how far a stream is behind. MariaDB's servers tell no bytes, and only
// PostgreSQL's keep log for a stream that has fallen behind.
func lagging(e estate.Engine, p move.Progress) string {
	text := fmt.Sprintf("behind by %.1f s", p.LagSeconds)
	if e != estate.MariaDB || p.LagBytes > 0 {
		text = fmt.Sprintf("behind by %s and %.1f s", bytes(p.LagBytes), p.LagSeconds)
	}
	if p.Retained > 0 {
		text += ", the source keeps " + bytes(p.Retained) + " of log"
	}
	return text
}
