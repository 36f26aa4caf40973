package mariadb

import "dhow/internal/move"

// board is the board that all movers have, with tables by Name.
type board struct{ move.Board }

func newBoard(database string) *board { return &board{move.Board{Database: database}} }

func (b *board) begin(ph move.Phase, steps int)   { b.Begin(ph, steps) }
func (b *board) expect(n Name, rows, bytes int64) { b.Expect(n.String(), rows, bytes) }
func (b *board) copied(n Name, rows, bytes int64) { b.Done(n.String(), rows, bytes) }
func (b *board) tableDone(n Name)                 { b.TableDone(n.String()) }
func (b *board) stepDone()                        { b.StepDone() }
