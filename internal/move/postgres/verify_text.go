package postgres

import (
	"fmt"
	"slices"
	"strings"
)

// A row is compared by a text that every supported server writes alike: its
// columns' values as their output functions print them under sessionSettings,
// put together so that no two different rows have the same text. Of that text
// two hashes of 64 bits with different seeds are taken, which never leave the
// server but as sums over a chunk.
//
// The hash is PostgreSQL's own hashtextextended, whose result is the same from
// version 11 on for the same bytes. It is not cryptographic, and need not be:
// nobody chooses rows so that they collide, and two rows that differ by accident
// have the same 128 bits once in 10^38. Beside it md5 takes five times as long
// and is refused by servers in FIPS mode; sha256 takes twice as long and can not
// be summed up without more work for each row.

const (
	// concatMost is how many arguments one call of concat may have (the server's limit is 100).
	concatMost = 96
	seedA      = 0
	seedB      = 1
)

// plainTypes print a text that is never empty and holds no comma, so that the
// empty text can stand for NULL and a comma can end the value.
var plainTypes = []uint32{
	16,             // boolean
	17,             // bytea, in hex
	20, 21, 23, 26, // whole numbers, oid
	700, 701, 1700, // floating point, numeric
	1082, 1083, 1266, // date, time, timetz
	1114, 1184, 1186, // timestamp, timestamptz, interval
	829, 774, 869, 650, // macaddr, macaddr8, inet, cidr
	2950, 3220, // uuid, pg_lsn
}

// measuredTypes are told apart by their length, which comes before them.
var measuredTypes = []uint32{textOID, 1043, 1042} // text, varchar, char(n)

// rowText is the expression of the text of columns of t. All other types than
// the above go into a record, whose output function quotes what needs it. Mixed
// says that the sides keep texts in different encodings: then lengths are those
// in characters, and the text is printed in bytes that both have alike.
func rowText(columns []Column, mixed bool) string {
	text := joinedText(columns, mixed)
	if mixed {
		text = "encode(convert_to(" + text + ", 'UTF8'), 'hex')"
	}
	return text
}

func joinedText(columns []Column, mixed bool) string {
	var parts, rest []string
	for _, c := range columns {
		name := "t." + identifiers([]string{c.Name})
		switch {
		case slices.Contains(plainTypes, c.TypeOID):
			parts = append(parts, name, "','")
		case slices.Contains(measuredTypes, c.TypeOID) && mixed:
			parts = append(parts, "length(CASE WHEN num_nulls("+name+") = 0 THEN concat("+name+") END)", "':'", name, "','")
		case slices.Contains(measuredTypes, c.TypeOID):
			parts = append(parts, "octet_length("+name+")", "':'", name, "','")
		default:
			rest = append(rest, name)
		}
	}
	if len(rest) > 0 {
		parts = append(parts, "ROW("+strings.Join(rest, ", ")+")")
	}
	if len(parts) == 0 {
		return "''"
	}
	for len(parts) > concatMost { // a value and what belongs to it may be torn apart: the order stays
		var joined []string
		for group := range slices.Chunk(parts, concatMost) {
			joined = append(joined, "concat("+strings.Join(group, ", ")+")")
		}
		parts = joined
	}
	return "concat(" + strings.Join(parts, ", ") + ")"
}

// hashes are the expressions of the two hashes of a text.
func hashes(text string) (a, b string) {
	return fmt.Sprintf(`hashtextextended((%s) COLLATE "C", %d)`, text, seedA), fmt.Sprintf(`hashtextextended((%s) COLLATE "C", %d)`, text, seedB)
}

// hashedRows selects a table's rows as h0 and h1, beside other expressions over t. OFFSET 0
// keeps the planner from writing the text's expression into both hashes, which
// would print each row twice.
func (t *comparedTable) hashedRows(beside []string, from, where string) string {
	names := make([]string, len(beside))
	inner := make([]string, 0, len(beside)+1)
	for i, b := range beside {
		names[i] = fmt.Sprintf("c%d, ", i)
		inner = append(inner, fmt.Sprintf("%s AS c%d", b, i))
	}
	inner = append(inner, t.text+" AS r")
	if from == "" {
		from = "ONLY " + t.source.SQL() + " AS t"
	}
	if where != "" {
		where = " WHERE " + where
	}
	a, b := hashes("r")
	return fmt.Sprintf("(SELECT %s%s AS h0, %s AS h1 FROM (SELECT %s FROM %s%s OFFSET 0) y OFFSET 0) x", strings.Join(names, ""), a, b, strings.Join(inner, ", "), from, where)
}
