package postgres

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// kind is a type of the random test, with how its values are made up.
type kind struct {
	name  string // for columns' and tables' names
	sql   string
	value func(r *rand.Rand) string // a value as the type's input function reads it
	since int                       // the first major version that has it
	key   bool                      // it can be a primary key
	delim string                    // between elements of its arrays; empty: a comma
}

// one makes values of a fixed list.
func one(values ...string) func(*rand.Rand) string {
	return func(r *rand.Rand) string { return values[r.IntN(len(values))] }
}

// either takes a value of the list or of the maker.
func either(make func(*rand.Rand) string, values ...string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		if r.IntN(3) == 0 {
			return make(r)
		}
		return values[r.IntN(len(values))]
	}
}

// whole makes whole numbers of up to some bits, the extremes among them.
func whole(bits int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		limit := int64(math.MaxInt64 >> (64 - bits))
		switch r.IntN(4) {
		case 0:
			return strconv.FormatInt(limit, 10)
		case 1:
			return strconv.FormatInt(-limit-1, 10)
		case 2:
			return strconv.FormatInt(int64(r.IntN(10)), 10)
		}
		return strconv.FormatInt(int64(r.Uint64())>>(64-bits), 10)
	}
}

func unsigned(r *rand.Rand) string {
	return one("0", "1", "4294967295", strconv.FormatUint(uint64(r.Uint32()), 10))(r)
}

// oddTexts are texts that something on the way could take for something else.
var oddTexts = []string{
	"", " ", "  padded  ", "NULL", "null", `\N`, `\.`, `\\`, `\`, "tab\there", "line\nbreak", "return\r\n", "\b\f\v\x01\x7f", `"quoted"`, "it's", "''", `{a,b}`, `(1,"x")`,
	"[1,2)", "comma, semi; colon:", "$1 $$ %s %d", "ünïcödé", "日本語テキスト", "e\u0301 combining", "\u200d\u200b\ufeff", "👩‍👩‍👧‍👦🇨🇭", "\U0010FFFF", "ß ẞ İ ı", "A", "a", "1.0", "1.00", "0", "-0", "true",
}

func oddText(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return strings.Repeat(oddTexts[r.IntN(len(oddTexts))], 1+r.IntN(5))
	case 1:
		return strconv.Itoa(r.IntN(1000))
	case 2:
		return oddTexts[r.IntN(len(oddTexts))] + oddTexts[r.IntN(len(oddTexts))]
	}
	return oddTexts[r.IntN(len(oddTexts))]
}

// characters makes texts of at most so many characters, atMostBytes of at most so many bytes.
func characters(n int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		of := []rune(oddText(r))
		return string(of[:min(n, len(of))])
	}
}

func atMostBytes(n int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		s := oddText(r)
		for len(s) > n {
			of := []rune(s)
			s = string(of[:len(of)-1])
		}
		return s
	}
}

func digitsOf(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.IntN(10))
	}
	return string(b)
}

func decimal(r *rand.Rand) string {
	return one("-", "")(r) + digitsOf(r, 1+r.IntN(40)) + "." + digitsOf(r, 1+r.IntN(40))
}

func octets(r *rand.Rand) string {
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return fmt.Sprintf(`\x%x`, b)
}

func identifier(r *rand.Rand) string {
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), r.Int64N(1<<48))
}

func day(r *rand.Rand) string {
	return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9998), 1+r.IntN(12), 1+r.IntN(28))
}

func clock(r *rand.Rand) string {
	return fmt.Sprintf("%02d:%02d:%02d.%06d", r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000000))
}

func moment(r *rand.Rand) string { return day(r) + " " + clock(r) }

func span(r *rand.Rand) string {
	return fmt.Sprintf("%d years %d mons %d days %d:%02d:%02d.%06d", r.IntN(200)-100, r.IntN(30)-15, r.IntN(80)-40, r.IntN(100)-50, r.IntN(60), r.IntN(60), r.IntN(1000000))
}

func bitText(least, most int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		b := make([]byte, least+r.IntN(most-least+1))
		for i := range b {
			b[i] = byte('0' + r.IntN(2))
		}
		return string(b)
	}
}

func number(r *rand.Rand) string {
	return one("0", "-0", "1", "-1.5", "1e-300", "1e300", "0.1", "NaN", "Infinity", "-Infinity", strconv.FormatFloat(r.NormFloat64()*1000, 'g', -1, 64))(r)
}

// finite numbers, for shapes that are made of others.
func finite(r *rand.Rand) string {
	return one("0", "1", "-1.5", "1e-30", "1e30", "0.1", strconv.FormatFloat(r.NormFloat64()*1000, 'g', -1, 64))(r)
}

func points(r *rand.Rand, n int) string {
	p := make([]string, n)
	for i := range p {
		p[i] = "(" + finite(r) + "," + finite(r) + ")"
	}
	return strings.Join(p, ",")
}

// between makes ranges of the values of two makers, of which the first's are lower.
func between(low, high func(*rand.Rand) string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		switch r.IntN(6) {
		case 0:
			return "empty"
		case 1:
			return "(,)"
		case 2:
			return "[" + low(r) + ",)"
		case 3:
			return "(," + high(r) + "]"
		}
		return one("[", "(")(r) + low(r) + "," + high(r) + one(")", "]")(r)
	}
}

func several(of func(*rand.Rand) string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		parts := make([]string, r.IntN(4))
		for i := range parts {
			parts[i] = of(r)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
}

// quotedElement is an element of an array's or a record's text.
func quotedElement(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// array makes an array of a kind: empty, of one or two dimensions, with other
// lower bounds, with elements that are NULL.
func (k kind) array(r *rand.Rand) string {
	delim := k.delim
	if delim == "" {
		delim = ","
	}
	row := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			if parts[i] = "NULL"; r.IntN(4) > 0 {
				parts[i] = quotedElement(k.value(r))
			}
		}
		return "{" + strings.Join(parts, delim) + "}"
	}
	switch r.IntN(5) {
	case 0:
		return "{}"
	case 1:
		return "{" + row(2) + delim + row(2) + "}"
	case 2:
		return "[3:4]=" + row(2)
	case 3:
		return "[0:1][-1:0]={" + row(2) + delim + row(2) + "}"
	}
	return row(1 + r.IntN(3))
}

var lowDays, highDays = one("1000-01-01", "2026-02-28", "-infinity"), one("2026-03-01", "9999-12-31", "infinity")

func snapshotText(r *rand.Rand) string {
	return one("10:20:10,14,15", "1:1:", fmt.Sprintf("%d:%d:", 1+r.IntN(1000), 2000+r.IntN(1000)))(r)
}

// pairText is a value of the composite type pair, in its text form.
func pairText(r *rand.Rand) string {
	a, b := "", ""
	if r.IntN(3) > 0 {
		a = whole(32)(r)
	}
	if r.IntN(3) > 0 {
		b = quotedElement(oddText(r))
	}
	return "(" + a + "," + b + ")"
}

// kinds are all types that a column can have and a user can give a value, and
// types of the user's own.
var kinds = []kind{
	{name: "bool", sql: "boolean", value: one("t", "f"), key: true},
	{name: "int2", sql: "smallint", value: whole(16), key: true},
	{name: "int4", sql: "integer", value: whole(32), key: true},
	{name: "int8", sql: "bigint", value: whole(64), key: true},
	{name: "oid", sql: "oid", value: unsigned, key: true},
	{name: "xid", sql: "xid", value: unsigned},
	{name: "cid", sql: "cid", value: unsigned},
	{name: "xid8", sql: "xid8", value: either(unsigned, "18446744073709551615", "0"), key: true},
	{name: "tid", sql: "tid", value: one("(0,0)", "(4294967295,65535)", "(7,8)"), key: true},
	{name: "numeric", sql: "numeric", value: either(decimal, "NaN", "0", "0.000", "-0", "1.0", "1.00", "1e-200", "12345e300", "-1"), key: true},
	{name: "infinite", sql: "numeric", value: either(decimal, "Infinity", "-Infinity", "NaN"), since: 14, key: true},
	{name: "scaled", sql: "numeric(12,3)", value: one("1.0005", "-999999999.999", "0", "0.1", "NaN"), key: true},
	{name: "float4", sql: "real", value: one("NaN", "Infinity", "-Infinity", "0", "-0", "1e-45", "3.4028235e38", "0.1", "1.5", "16777217"), key: true},
	{name: "float8", sql: "double precision", value: either(number, "4.9e-324", "1.7976931348623157e308", "0.30000000000000004"), key: true},
	{name: "money", sql: "money", value: one("-92233720368547758.08", "92233720368547758.07", "0", "12.34", "-0.01"), key: true},
	{name: "text", sql: "text", value: oddText, key: true},
	{name: "varchar", sql: "character varying(20)", value: characters(20), key: true},
	{name: "bpchar", sql: "character(7)", value: characters(7), key: true},
	{name: "anybpchar", sql: "bpchar", value: oddText, key: true},
	{name: "name", sql: "name", value: atMostBytes(63), key: true},
	{name: "char", sql: `"char"`, value: one("", "a", "\\", "'", "\"", ",", " ", "\x7f", "\n"), key: true},
	{name: "refcursor", sql: "refcursor", value: oddText},
	{name: "bytea", sql: "bytea", value: either(octets, `\x`, `\x00`, `\x5c4e`, `\x270a`), key: true},
	{name: "date", sql: "date", value: either(day, "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29"), key: true},
	{name: "time", sql: "time", value: either(clock, "00:00", "24:00", "23:59:59.999999"), key: true},
	{name: "timetz", sql: "timetz", value: one("00:00+15:59:59", "24:00-15:59:59", "12:34:56.789+02", "12:34:56.789Z"), key: true},
	{name: "timestamp", sql: "timestamp", value: either(moment, "infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"), key: true},
	{name: "timestamptz", sql: "timestamptz", value: either(moment, "infinity", "-infinity", "4713-01-02 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2026-10-25 02:30:00+02"), key: true},
	{name: "millis", sql: "timestamp(3)", value: moment, key: true},
	{name: "interval", sql: "interval", value: either(span, "1 mon", "30 days", "-178000000 years", "00:00:00.000001", "-1 day +01:00:00", "0"), key: true},
	{name: "daytosecond", sql: "interval day to second(2)", value: span, key: true},
	{name: "uuid", sql: "uuid", value: either(identifier, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"), key: true},
	{name: "json", sql: "json", value: one(`{"a":  1, "a" : 2}`, `null`, `"\u0000"`, `[1,2.50, "x"]`, ` "padded" `, `{}`, `"é\n"`)},
	{name: "jsonb", sql: "jsonb", value: one(`{"a":  1, "a" : 2}`, `null`, `1.0`, `1.00`, `[1,2.50, null, {"b": []}]`, `{}`, `"é\n\"\\"`, `123456789012345678901234567890.10`), key: true},
	{name: "jsonpath", sql: "jsonpath", value: one(`$`, `$.a[*] ? (@.b > 1.50 && exists (@.c))`, `strict $."odd key"[last]`, `lax $.x.datetime()`)},
	{name: "xml", sql: "xml", value: one(`<a b="c">x</a>`, `only text`, ``, `<a/><b/>`, `<!-- c --><ü>&lt;</ü>`)},
	{name: "inet", sql: "inet", value: one("10.0.0.1", "10.0.0.1/24", "0.0.0.0/0", "::1", "2001:db8::1/64", "::ffff:1.2.3.4"), key: true},
	{name: "cidr", sql: "cidr", value: one("10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "2001:db8::/32", "::1/128"), key: true},
	{name: "macaddr", sql: "macaddr", value: one("08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"), key: true},
	{name: "macaddr8", sql: "macaddr8", value: one("08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"), key: true},
	{name: "bit", sql: "bit(5)", value: bitText(5, 5), key: true},
	{name: "anybit", sql: `"bit"`, value: bitText(1, 20), key: true},
	{name: "varbit", sql: "bit varying", value: bitText(0, 70), key: true},
	{name: "varbit10", sql: "bit varying(10)", value: bitText(0, 10), key: true},
	{name: "point", sql: "point", value: func(r *rand.Rand) string { return "(" + number(r) + "," + number(r) + ")" }},
	{name: "line", sql: "line", value: one("{1,2,3}", "{0,-1,0.1}", "{-1,0,1e30}")},
	{name: "lseg", sql: "lseg", value: func(r *rand.Rand) string { return "[" + points(r, 2) + "]" }},
	{name: "box", sql: "box", value: func(r *rand.Rand) string { return points(r, 2) }, delim: ";"},
	{name: "path", sql: "path", value: func(r *rand.Rand) string {
		if r.IntN(2) == 0 {
			return "[" + points(r, 1+r.IntN(4)) + "]"
		}
		return "(" + points(r, 1+r.IntN(4)) + ")"
	}},
	{name: "polygon", sql: "polygon", value: func(r *rand.Rand) string { return "(" + points(r, 1+r.IntN(5)) + ")" }},
	{name: "circle", sql: "circle", value: func(r *rand.Rand) string { return "<" + points(r, 1) + "," + one("0", "1.5", "1e10")(r) + ">" }},
	{name: "tsvector", sql: "tsvector", value: one("", "a fat cat", "'odd '' quote':1A,2B 'x\\\\y':3", "ünï:4C"), key: true},
	{name: "tsquery", sql: "tsquery", value: one("", "fat & (rat | !cat)", "'odd '' q':*AB <-> b", "a <3> b"), key: true},
	{name: "int4range", sql: "int4range", value: between(one("-5", "0", "3"), one("7", "9", "2147483646")), key: true},
	{name: "int8range", sql: "int8range", value: between(one("-9223372036854775808", "0"), one("7", "9223372036854775806")), key: true},
	{name: "numrange", sql: "numrange", value: between(one("-1.50", "0", "0.000"), one("1.0", "1.00", "1e50")), key: true},
	{name: "tsrange", sql: "tsrange", value: between(lowDays, highDays), key: true},
	{name: "tstzrange", sql: "tstzrange", value: between(lowDays, highDays), key: true},
	{name: "daterange", sql: "daterange", value: between(lowDays, highDays), key: true},
	{name: "int4multirange", sql: "int4multirange", value: several(between(one("-5", "0", "3"), one("7", "9"))), since: 14, key: true},
	{name: "int8multirange", sql: "int8multirange", value: several(between(one("-5", "0", "3"), one("7", "9"))), since: 14, key: true},
	{name: "nummultirange", sql: "nummultirange", value: several(between(one("-1.50", "0.000"), one("1.0", "1.00", "7"))), since: 14, key: true},
	{name: "tsmultirange", sql: "tsmultirange", value: several(between(lowDays, highDays)), since: 14, key: true},
	{name: "tstzmultirange", sql: "tstzmultirange", value: several(between(lowDays, highDays)), since: 14, key: true},
	{name: "datemultirange", sql: "datemultirange", value: several(between(lowDays, highDays)), since: 14, key: true},
	{name: "regclass", sql: "regclass", value: one("pg_class", "public.bag", `public."Odd ""name"""`, "-", "99999999"), key: true},
	{name: "regtype", sql: "regtype", value: one("integer", "public.mood", "text[]", "-", "99999999", "double precision"), key: true},
	{name: "regproc", sql: "regproc", value: one("now", "-", "public.stamped", "99999999"), key: true},
	{name: "regprocedure", sql: "regprocedure", value: one("abs(integer)", "public.stamped()", "-", "99999999"), key: true},
	{name: "regoper", sql: "regoper", value: one("pg_catalog.||/", "0", "99999999"), key: true},
	{name: "regoperator", sql: "regoperator", value: one("+(integer,integer)", "0", "-(NONE,bigint)", "99999999"), key: true},
	{name: "regrole", sql: "regrole", value: one("pg_monitor", "-", "99999999"), key: true},
	{name: "regnamespace", sql: "regnamespace", value: one("public", "pg_catalog", "-", "99999999"), key: true},
	{name: "regconfig", sql: "regconfig", value: one("english", "simple", "-", "99999999"), key: true},
	{name: "regdictionary", sql: "regdictionary", value: one("simple", "english_stem", "-", "99999999"), key: true},
	{name: "regcollation", sql: "regcollation", value: one(`"C"`, `"POSIX"`, "-", "99999999"), key: true},
	{name: "pg_lsn", sql: "pg_lsn", value: one("0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"), key: true},
	{name: "txid_snapshot", sql: "txid_snapshot", value: snapshotText},
	{name: "pg_snapshot", sql: "pg_snapshot", value: snapshotText},
	{name: "int2vector", sql: "int2vector", value: one("", "1 2 -3", "7")},
	{name: "oidvector", sql: "oidvector", value: one("", "1 2 4294967295", "7"), key: true},
	{name: "aclitem", sql: "aclitem", value: one("pg_monitor=r/pg_monitor", "=X/pg_monitor", "pg_monitor=a*r*w/pg_monitor")},
	{name: "mood", sql: "public.mood", value: one("sad", "ok", "very \"happy\", 'really'", ""), key: true},
	{name: "positive", sql: "public.positive", value: one("1", "2147483647", "42"), key: true},
	{name: "code", sql: "public.code", value: characters(9), key: true},
	{name: "bytechar", sql: "public.bytechar", value: one("", "a", "z"), key: true},
	{name: "pair", sql: "public.pair", value: pairText, key: true},
	{name: "nested", sql: "public.nested", value: func(r *rand.Rand) string {
		return "(" + quotedElement(pairText(r)) + "," + quotedElement(kind{value: pairText}.array(r)) + "," + one("t", "f", "")(r) + ")"
	}},
	{name: "floatrange", sql: "public.floatrange", value: between(one("-Infinity", "-1.5", "0"), one("0.1", "1e300", "NaN")), key: true},
	{name: "citext", sql: "public.citext", value: one("a", "A", "b", "B", "é", "É", ""), key: true},
	{name: "ltree", sql: "public.ltree", value: one("a", "a.b", "Top.Science_1.x", ""), key: true},
	{name: "hstore", sql: "public.hstore", value: one("", "a=>1", `"k \"=>, \\"=>NULL, b=>""`, "b=>2, a=>NULL"), key: true},
	{name: "numbers", sql: "public.numbers", value: kind{value: whole(32)}.array, key: true},
}

// uncovered are the server's own types that are no column's: their input
// functions refuse every value, or only the server makes them.
var uncovered = []string{"gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_ddl_command"}

// kindsFor are the kinds that servers of a version and of all later ones have.
func kindsFor(version int, xml bool) []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.since > version || k.name == "xml" && !xml })
}

// literal is a value of the kind, or NULL.
func (k kind) literal(r *rand.Rand) string {
	if r.IntN(8) == 0 {
		return "NULL"
	}
	return k.certain(r)
}

// certain is a value of the kind that is not NULL.
func (k kind) certain(r *rand.Rand) string { return quote(k.value(r)) + "::" + k.sql }
