package postgres

import (
	"fmt"

	"github.com/jackc/pglogrepl"
)

// LSN is a position in a server's write-ahead log. It scans from and prints as
// PostgreSQL's text form.
type LSN pglogrepl.LSN

// String is the position as PostgreSQL writes it, for example 16/B374D848.
func (l LSN) String() string { return pglogrepl.LSN(l).String() }

// Scan reads the text form.
func (l *LSN) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("a log position is a text, not %T", src)
	}
	p, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("read log position %q: %w", text, err)
	}
	*l = LSN(p)
	return nil
}
