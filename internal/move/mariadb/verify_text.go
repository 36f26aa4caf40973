package mariadb

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A row is compared by a text that every supported server writes alike: the values
// of its columns, put together so that no two different rows have the same text. Of
// that text the server takes the MD5, and of a chunk the sum of the first halves of
// those: nothing else leaves the server while both agree. MD5 is all that the servers
// have in common that is wide enough; nobody chooses rows here so that they collide.
//
// What a value's text is depends on its type, for the server's own is not always
// the value: a float is printed with six digits, a text is translated to the
// session's character set, an enum of two meanings prints one text.

// class says how a column's value is written and read.
type class int

const (
	classPlain    class = iota // dates, addresses: as the server prints them; never with a comma
	classDecimal               // whole numbers and decimals, likewise
	classFloat                 // printed in full as a double
	classNumber                // bit, enum, set: by their number
	classText                  // by the bytes that are stored
	classBytes                 // binary
	classLong                  // texts of any length, JSON: as classText, and summed up first
	classLongByte              // blobs, geometry, vectors
	classVersion               // the transaction that ended a version of a row, whose number is each server's own
	classPeriod                // the end of a version of a row, whose "still valid" differs between servers
)

// periodEnd is the last moment that servers before 11.5 know; a row that is valid
// ends then or, on newer ones, later.
// versionEnd is that of tables that count transactions.
const (
	periodEnd  = "2038-01-19 03:14:07"
	versionEnd = "18446744073709551615"
)

func classOf(c *Column) class {
	switch strings.ToLower(c.DataType) {
	case "float", "double", "real":
		return classFloat
	case "bit", "enum", "set":
		return classNumber
	case "char", "varchar":
		return classText
	case "binary", "varbinary":
		return classBytes
	case "tinytext", "text", "mediumtext", "longtext", "json":
		return classLong
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "numeric", "year":
		return classDecimal
	case "date", "time", "datetime", "timestamp", "uuid", "inet4", "inet6":
		return classPlain
	}
	return classLongByte // blobs, geometry, vectors, and what comes one day
}

// comparedColumn is a column that both sides have.
type comparedColumn struct {
	name    string
	class   class
	charset string // of a text
	// wide: the sides keep its text in different character sets, so characters are compared.
	wide bool
}

// text is the value's text in the row's: it tells NULL from all values, and where it ends.
func (c comparedColumn) text() string {
	n := "t." + quote(c.name)
	raw := "CAST(" + n + " AS BINARY)"
	if c.wide {
		raw = "CAST(CONVERT(" + n + " USING utf8mb4) AS BINARY)"
	}
	switch c.class {
	case classText, classBytes:
		return fmt.Sprintf("IFNULL(CONCAT(LENGTH(%[1]s), ':', %[1]s), 'N')", raw)
	case classLong, classLongByte:
		// A text that is longer than a packet can not be put together, but its sum can be taken.
		if !c.wide {
			raw = n
		}
		return fmt.Sprintf("IF(%s IS NULL, 'N', MD5(%s))", n, raw)
	default:
		return "IFNULL(" + c.value() + ", 'N')"
	}
}

// value is the value as it is listed, and found again: of texts the bytes.
func (c comparedColumn) value() string {
	n := "t." + quote(c.name)
	switch c.class {
	case classFloat:
		return "CAST(" + n + " * 1e0 AS CHAR)"
	case classNumber:
		return "CAST(CAST(" + n + " AS UNSIGNED) AS CHAR)"
	case classVersion:
		return "IF(" + n + " = " + versionEnd + ", 'now', 'then')"
	case classPeriod:
		return fmt.Sprintf("IF(%[1]s > '%[2]s', 'now', CAST(%[1]s AS CHAR))", n, periodEnd)
	case classText, classLong:
		if c.wide {
			return "CAST(CONVERT(" + n + " USING utf8mb4) AS BINARY)"
		}
		return "CAST(" + n + " AS BINARY)"
	case classBytes, classLongByte:
		return n
	}
	return "CAST(" + n + " AS CHAR)"
}

// printed is the value for people: texts by their characters.
func (c comparedColumn) printed() string {
	if c.class == classText || c.class == classLong {
		return "CONVERT(t." + quote(c.name) + " USING utf8mb4)"
	}
	return c.value()
}

// stored is the value as it is written to the other side.
func (c comparedColumn) stored() string {
	switch c.class {
	case classLongByte:
		return "CAST(t." + quote(c.name) + " AS BINARY)"
	case classPeriod:
		return "CAST(t." + quote(c.name) + " AS CHAR)"
	}
	return c.value()
}

// literal is a listed value as a statement compares the column with it. Numbers and
// dates come from the server, which prints them without quotes.
func (c comparedColumn) literal(value string) string {
	switch c.class {
	case classFloat, classNumber, classDecimal:
		return value
	case classText, classLong:
		return "_" + c.introducer() + " X'" + hex.EncodeToString([]byte(value)) + "'"
	case classBytes, classLongByte:
		return "X'" + hex.EncodeToString([]byte(value)) + "'"
	}
	return "'" + value + "'"
}

// given is a value as a statement writes it: a parameter of that, in its own type.
func (c comparedColumn) given(value []byte) (sql string, param any, err error) {
	switch {
	case value == nil:
		return "?", nil, nil
	case c.class == classNumber:
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return "", nil, fmt.Errorf("read a value of column %s as a number", c.name)
		}
		return "?", n, nil
	case c.wide:
		return "CONVERT(? USING utf8mb4)", value, nil
	case c.class == classPlain || c.class == classDecimal || c.class == classFloat || c.class == classPeriod:
		return "?", string(value), nil
	}
	return "?", value, nil
}

// introducer is the character set of a listed text. Older servers call utf8mb3 by
// another name; what it holds utf8mb4 holds too.
func (c comparedColumn) introducer() string {
	if c.wide || c.charset == "utf8mb3" {
		return "utf8mb4"
	}
	return c.charset
}

// shown is a key's listed value for people.
func (c comparedColumn) shown(value string) string {
	if c.class == classText || c.class == classLong {
		switch c.introducer() {
		case "utf8mb4", "ascii":
		case "latin1":
			runes := make([]rune, 0, len(value))
			for _, b := range []byte(value) {
				runes = append(runes, rune(b))
			}
			return string(runes)
		case "ucs2", "utf16":
			return string(utf16.Decode(units(value)))
		default: // others have ASCII where it is, but for the wide ones
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				return "_" + c.charset + " 0x" + hex.EncodeToString([]byte(value))
			}
		}
	}
	return c.readable(value)
}

// units are a text's two-byte units, the higher byte first.
func units(text string) []uint16 {
	of := make([]uint16, 0, len(text)/2)
	for i := 0; i+1 < len(text); i += 2 {
		of = append(of, uint16(text[i])<<8|uint16(text[i+1]))
	}
	return of
}

// readable is a value that can be printed.
func (c comparedColumn) readable(value string) string {
	if (c.class == classBytes || c.class == classLongByte) && (!utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' })) {
		return "0x" + hex.EncodeToString([]byte(value))
	}
	return value
}

// digest is the MD5 of the texts of columns, in hex.
func digest(columns []comparedColumn) string {
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = c.text()
	}
	return "MD5(CONCAT(" + strings.Join(texts, ", ',', ") + "))"
}

// within is the condition of the keys after one and up to another; nil has no end.
func within(key []comparedColumn, after, upTo []string) string {
	var parts []string
	if after != nil {
		parts = append(parts, pastKey(key, after, ">", ">"))
	}
	if upTo != nil {
		parts = append(parts, pastKey(key, upTo, "<", "<="))
	}
	return strings.Join(parts, " AND ")
}

// pastKey compares a key of several columns so that the server uses its index.
func pastKey(key []comparedColumn, than []string, strict, last string) string {
	n := "t." + quote(key[0].name)
	if len(key) == 1 {
		return n + " " + last + " " + key[0].literal(than[0])
	}
	l := key[0].literal(than[0])
	return fmt.Sprintf("(%s %s= %s AND (%s %s %s OR (%s = %s AND %s)))", n, strict, l, n, strict, l, n, l, pastKey(key[1:], than[1:], strict, last))
}
