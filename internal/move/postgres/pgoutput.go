package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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

const (
	// slabBytes, slabValues and slabChanges are how much memory is taken at once for
	// messages, values and changes.
	slabBytes   = 64 << 10
	slabValues  = 1024
	slabChanges = 128
)

// slab gives memory for messages piece by piece: one allocation serves many of
// them, and goes when the last of them is applied.
type slab struct {
	bytes   []byte
	values  []datum
	changes []change
}

// clone keeps a message whose buffer will be used again.
func (s *slab) clone(data []byte) []byte {
	if len(data) > slabBytes/4 {
		return slices.Clone(data)
	}
	if len(data) > cap(s.bytes)-len(s.bytes) {
		s.bytes = make([]byte, 0, slabBytes)
	}
	at := len(s.bytes)
	s.bytes = append(s.bytes, data...)
	return s.bytes[at:len(s.bytes):len(s.bytes)]
}

func (s *slab) row(n int) row {
	if n == 0 || n > slabValues/4 { // a row without columns is a row too, not nil
		return make(row, n)
	}
	if n > len(s.values) {
		s.values = make([]datum, slabValues)
	}
	r := s.values[:n:n]
	s.values = s.values[n:]
	return r
}

func (s *slab) change() *change {
	if len(s.changes) == 0 {
		s.changes = make([]change, slabChanges)
	}
	c := &s.changes[0]
	s.changes = s.changes[1:]
	return c
}

var errShort = errors.New("the message is cut off")

// parseRow reads a row message; its rows point into data.
func parseRow(data []byte, s *slab) (rowMessage, error) {
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
		if r, rest, err = parseTuple(rest[1:], s); err != nil {
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

func parseTuple(data []byte, s *slab) (row, []byte, error) {
	if len(data) < 2 {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(data))
	data = data[2:]
	if n > len(data) { // each datum takes a byte at least
		return nil, nil, errShort
	}
	r := s.row(n)
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

// copySpecial are the bytes that COPY's text format writes otherwise.
const copySpecial = "\\\n\r\t"

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
		text := r[c].text
		if !bytes.ContainsAny(text, copySpecial) {
			buf = append(buf, text...)
			continue
		}
		for _, b := range text {
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
