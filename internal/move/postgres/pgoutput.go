package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// This file reads the row messages of pgoutput. They are most of a stream, so
// they are read without a copy and without an allocation for each value; the
// rare messages (relations, transactions) are read by pglogrepl.

// datum is a value as pgoutput sends it.
type datum struct {
	text []byte
	kind byte
}

// The kinds of a datum.
const (
	datumNull      = 'n'
	datumUnchanged = 'u' // a TOAST value that the update did not touch
	datumText      = 't'
)

// row is a tuple: a datum for each column of the relation.
type row []datum

// rowMessage is an insert, update or delete.
type rowMessage struct {
	kind     byte // 'I', 'U' or 'D'
	relation uint32
	old      row  // nil when not sent
	oldKey   bool // old holds the key's columns only
	new      row
}

var errShort = errors.New("the message is cut off")

// parseRow reads a row message; its rows point into data.
func parseRow(data []byte) (rowMessage, error) {
	var m rowMessage
	if len(data) < 6 {
		return m, errShort
	}
	m.kind = data[0]
	m.relation = binary.BigEndian.Uint32(data[1:])
	rest := data[5:]
	var err error
	for len(rest) > 0 {
		part := rest[0]
		var r row
		if r, rest, err = parseTuple(rest[1:]); err != nil {
			return m, err
		}
		switch {
		case (part == 'K' || part == 'O') && m.old == nil && m.new == nil && m.kind != 'I':
			m.old, m.oldKey = r, part == 'K'
		case part == 'N' && m.new == nil && m.kind != 'D':
			m.new = r
		default:
			return m, fmt.Errorf("a tuple of kind %q has no place in a message of kind %q", part, m.kind)
		}
	}
	if m.kind == 'D' && m.old == nil || m.kind != 'D' && m.new == nil {
		return m, errShort
	}
	return m, nil
}

func parseTuple(data []byte) (row, []byte, error) {
	if len(data) < 2 {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(data))
	data = data[2:]
	if n > len(data) { // each datum takes a byte at least
		return nil, nil, errShort
	}
	r := make(row, n)
	for i := range r {
		if len(data) == 0 {
			return nil, nil, errShort
		}
		kind := data[0]
		data = data[1:]
		switch kind {
		case datumNull, datumUnchanged:
			r[i].kind = kind
		case datumText:
			if len(data) < 4 {
				return nil, nil, errShort
			}
			size := int(binary.BigEndian.Uint32(data))
			data = data[4:]
			if size > len(data) {
				return nil, nil, errShort
			}
			r[i] = datum{text: data[:size:size], kind: datumText}
			data = data[size:]
		default:
			return nil, nil, fmt.Errorf("a value of kind %q is not known", kind)
		}
	}
	return r, data, nil
}

// appendCopyText appends a row in COPY's text format, with its line's end.
func appendCopyText(buf []byte, r row, columns []int) []byte {
	for i, c := range columns {
		if i > 0 {
			buf = append(buf, '\t')
		}
		if r[c].kind == datumNull {
			buf = append(buf, '\\', 'N')
			continue
		}
		for _, b := range r[c].text {
			switch b {
			case '\\':
				buf = append(buf, '\\', '\\')
			case '\n':
				buf = append(buf, '\\', 'n')
			case '\r':
				buf = append(buf, '\\', 'r')
			case '\t':
				buf = append(buf, '\\', 't')
			default:
				buf = append(buf, b)
			}
		}
	}
	return append(buf, '\n')
}

const textOID = 25

// textArray encodes values as a binary text[] parameter.
func textArray(rows []row, column int) []byte {
	size := 20
	for _, r := range rows {
		size += 4 + len(r[column].text)
	}
	buf := make([]byte, 0, size)
	buf = binary.BigEndian.AppendUint32(buf, 1) // dimensions
	buf = binary.BigEndian.AppendUint32(buf, 1) // may hold nulls
	buf = binary.BigEndian.AppendUint32(buf, textOID)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(rows)))
	buf = binary.BigEndian.AppendUint32(buf, 1) // lower bound
	for _, r := range rows {
		if r[column].kind != datumText {
			buf = binary.BigEndian.AppendUint32(buf, ^uint32(0))
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(r[column].text)))
		buf = append(buf, r[column].text...)
	}
	return buf
}
