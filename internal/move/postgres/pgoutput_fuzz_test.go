package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// rowMessageBytes writes a row message as the server does.
func rowMessageBytes(m rowMessage) []byte {
	buf := binary.BigEndian.AppendUint32([]byte{m.kind}, m.relation)
	tuple := func(kind byte, r row) {
		buf = binary.BigEndian.AppendUint16(append(buf, kind), uint16(len(r)))
		for _, d := range r {
			buf = append(buf, d.kind)
			if d.kind == datumText {
				buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(d.text))), d.text...)
			}
		}
	}
	if m.old != nil {
		tuple(map[bool]byte{true: 'K', false: 'O'}[m.oldKey], m.old)
	}
	if m.new != nil {
		tuple('N', m.new)
	}
	return buf
}

// FuzzParseRow: what is read as a row message is that message, to the last byte.
func FuzzParseRow(f *testing.F) {
	text := func(s string) datum { return datum{text: []byte(s), kind: datumText} }
	null, same := datum{kind: datumNull}, datum{kind: datumUnchanged}
	for _, m := range []rowMessage{
		{kind: 'I', relation: 16384, new: row{text("1"), null, text("")}},
		{kind: 'U', relation: 1, old: row{text("1"), null}, oldKey: true, new: row{text("2"), same}},
		{kind: 'U', relation: 1, old: row{text("a"), text("b")}, new: row{text("c"), same}},
		{kind: 'D', relation: 1 << 31, old: row{text("1")}, oldKey: true},
		{kind: 'I', new: row{}},
		{kind: 'D', old: row{}},
	} {
		whole := rowMessageBytes(m)
		if got, err := parseRow(whole, &slab{}); err != nil || !bytes.Equal(rowMessageBytes(got), whole) {
			f.Errorf("%+v was read as %+v, %v", m, got, err)
		}
		f.Add(whole)
		f.Add(whole[:len(whole)-1])
		f.Add(append(slices.Clone(whole), 'N', 0, 0))
	}
	f.Add([]byte("I\x00\x00\x00\x01N\xff\xff"))
	f.Add([]byte("I\x00\x00\x00\x01N\x00\x01t\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseRow(data, &slab{})
		if err != nil {
			return
		}
		if back := rowMessageBytes(m); !bytes.Equal(back, data) {
			t.Errorf("%q was read as %+v, which is %q", data, m, back)
		}
	})
}

// FuzzMessages sends whole replication messages through the reader's front door:
// whatever they hold, it is refused or taken, and does no harm.
func FuzzMessages(f *testing.F) {
	insert := rowMessageBytes(rowMessage{kind: 'I', relation: 7, new: row{{text: []byte("dhow_test_fuzz"), kind: datumText}, {text: []byte("5"), kind: datumText}}})
	described := append([]byte("R\x00\x00\x00\x07dhow\x00marker\x00d\x00\x02"), "\x01stream\x00\x00\x00\x00\x19\xff\xff\xff\xff\x00n\x00\x00\x00\x00\x14\xff\xff\xff\xff"...)
	begin := append([]byte{'B'}, make([]byte, 20)...)
	commit := append([]byte{'C'}, make([]byte, 25)...)
	for _, m := range [][]byte{described, begin, insert, commit, []byte("T\x00\x00\x00\x01\x00\x00\x00\x00\x07"), []byte("O\x00"), []byte("Y"), {}, []byte("T\xff\xff\xff\xff\x00\x00\x00\x00\x00"), described[:9], begin[:5], commit[:3], []byte("R\x00\x00\x00\x08public\x00t\x00d\xff\xff")} {
		f.Add(m)
	}
	cfg, err := pgx.ParseConfig("postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	if err != nil {
		f.Fatal(err)
	}
	mover, err := New(Config{Estate: "test", Name: "fuzz", Source: cfg, Target: cfg})
	if err != nil {
		f.Fatal(err)
	}
	gone, cancel := context.WithCancel(f.Context())
	cancel() // no server is asked
	header := append([]byte{'w'}, make([]byte, xlogHeader-1)...)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := mover.newRelay(gone, streamState{Lanes: 1})
		if err != nil {
			t.Fatal(err)
		}
		in := &intake{r: r, relations: map[uint32]*relation{}, ignored: map[uint32]bool{}, catalog: &Catalog{}}
		for _, message := range [][]byte{described, begin, data, insert, data} {
			if in.copyData(gone, append(slices.Clone(header), message...)) != nil { // the stream ends with it
				return
			}
		}
		if alive := append([]byte{'k'}, data...); len(alive) < keepaliveLength || alive[17] != 1 { // an answer would need a connection
			_ = in.copyData(gone, alive)
		}
		if in.marker < 0 || in.ordinal < 0 {
			t.Errorf("marker %d, ordinal %d", in.marker, in.ordinal)
		}
	})
}

// copyLine reads a line of COPY's text format as the server does.
func copyLine(line string) ([]*string, error) {
	line, ok := strings.CutSuffix(line, "\n")
	if !ok || strings.ContainsAny(line, "\n\r") {
		return nil, errors.New("not one line")
	}
	var fields []*string
	for field := range strings.SplitSeq(line, "\t") {
		if field == `\N` {
			fields = append(fields, nil)
			continue
		}
		var b strings.Builder
		for i := 0; i < len(field); i++ {
			if field[i] != '\\' {
				b.WriteByte(field[i])
				continue
			}
			if i++; i == len(field) {
				return nil, errors.New("a lone backslash")
			}
			at := strings.IndexByte(`\nrt`, field[i])
			if at < 0 {
				return nil, fmt.Errorf("escape of %q", field[i])
			}
			b.WriteByte("\\\n\r\t"[at])
		}
		text := b.String()
		fields = append(fields, &text)
	}
	return fields, nil
}

// FuzzRowText: a row that is written for COPY, or as an array, reads as the same row.
func FuzzRowText(f *testing.F) {
	for _, v := range [][2]string{{"", "a"}, {`\N`, "\t"}, {"\n\r\t\\", `\.`}, {"ä", "'"}, {"\x01\x7f", `\\N`}} {
		f.Add(v[0], v[1], true)
		f.Add(v[0], v[1], false)
	}
	f.Fuzz(func(t *testing.T, a, b string, null bool) {
		r := row{{text: []byte(a), kind: datumText}, {kind: datumNull}, {text: []byte(b), kind: datumText}}
		if !null {
			r[1] = datum{text: []byte(a + b), kind: datumText}
		}
		order := []int{2, 0, 1}
		got, err := copyLine(string(appendCopyText(nil, r, order)))
		if err != nil || len(got) != len(order) {
			t.Fatalf("%q, %q: %d fields, %v", a, b, len(got), err)
		}
		var list []*string
		if err := pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.BinaryFormatCode, textArray([]row{{r[2]}, {r[0]}, {r[1]}}, 0), &list); err != nil || len(list) != len(order) {
			t.Fatalf("%q, %q: array of %d, %v", a, b, len(list), err)
		}
		for i, c := range order {
			want := &r[c]
			for _, have := range []*string{got[i], list[i]} {
				if (have == nil) != (want.kind == datumNull) || have != nil && *have != string(want.text) {
					t.Errorf("field %d of %q, %q is wrong", i, a, b)
				}
			}
		}
	})
}
