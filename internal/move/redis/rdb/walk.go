package rdb

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// The kinds of a value's parts.
const (
	partString   = 's' // the value itself
	partElement  = 'e' // name: its place in the list
	partMember   = 'm' // of a set, or with its score of a sorted set
	partField    = 'f'
	partExpiry   = 't' // when a hash's field ends; name: the field
	partEntry    = 'x' // of a stream; name: its id
	partLast     = 'l' // a stream's length and last id
	partCounters = 'n' // what only Redis 7 counts, of a stream
	partGroup    = 'g'
	partPending  = 'p' // name: group and id
	partConsumer = 'c' // name: group and consumer
	partOwned    = 'o' // a pending entry's consumer; name: group, consumer and id
)

// walker takes a value apart, whatever its encoding, and hands out its parts. The
// slices that it hands out are valid during the call.
type walker struct {
	in   input
	emit func(part byte, name, value []byte) error
	n    uint64 // of list elements handed out
	num  [24]byte
	name []byte
	val  []byte
}

// open proves a payload's form and returns its type and body.
func open(payload []byte) (*layout, []byte, error) {
	const tail = 2 + 8
	if len(payload) < 1+tail {
		return nil, nil, errPayload
	}
	end := len(payload) - tail
	version := binary.LittleEndian.Uint16(payload[end:])
	if sum := binary.LittleEndian.Uint64(payload[end+2:]); sum != 0 && sum != Checksum(0, payload[:end+2]) {
		return nil, nil, errors.New("the payload's checksum does not fit")
	}
	switch payload[0] {
	case typeModule, typeModulePre:
		return nil, nil, ErrModule
	}
	t := layoutOf(payload[0], version >= newestValkey)
	if t == nil {
		return nil, nil, errors.New("type " + strconv.Itoa(int(payload[0])) + " of a value is not known")
	}
	return t, payload[1:end], nil
}

// walk hands out the parts of a payload's value.
func walk(payload []byte, emit func(part byte, name, value []byte) error) error {
	t, body, err := open(payload)
	if err != nil {
		return err
	}
	w := walker{in: over(body), emit: emit}
	if err := t.walk(&w); err != nil {
		return err
	}
	if w.in.r != w.in.w {
		return errors.New("the payload goes on behind its value")
	}
	return nil
}

func (w *walker) string() error {
	v, err := w.in.view()
	if err != nil {
		return err
	}
	return w.emit(partString, nil, v)
}

// element hands out the next element of a list.
func (w *walker) element(v []byte) error {
	name := binary.BigEndian.AppendUint64(w.name[:0], w.n)
	w.name = name
	w.n++
	return w.emit(partElement, name, v)
}

func (w *walker) member(v []byte) error { return w.emit(partMember, v, nil) }

// scored hands out a member of a sorted set.
func (w *walker) scored(member []byte, score float64) error {
	if score == 0 {
		score = 0 // one zero, for the encodings do not keep its sign
	}
	w.val = binary.BigEndian.AppendUint64(w.val[:0], math.Float64bits(score))
	return w.emit(partMember, member, w.val)
}

// scoredText is scored for a score that is written as text.
func (w *walker) scoredText(member, score []byte) error {
	f, err := strconv.ParseFloat(string(score), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errors.New("a score is no number")
	}
	return w.scored(member, f)
}

// each hands out the strings of which the value is made.
func (w *walker) each(f func(v []byte) error) error {
	return w.in.each(func() error {
		v, err := w.in.view()
		if err != nil {
			return err
		}
		return f(v)
	})
}

// eachField hands out the fields of a hash, where nothing stands before them.
func (w *walker) eachField(f func(name, value []byte) error) error {
	return w.each(func(name []byte) error {
		v, err := w.in.view()
		if err != nil {
			return err
		}
		return f(name, v)
	})
}

func (w *walker) list() error { return w.each(w.element) }
func (w *walker) set() error  { return w.each(w.member) }
func (w *walker) hash() error { return w.eachField(w.field) }

func (w *walker) zsetText() error {
	return w.each(func(v []byte) error {
		s, err := w.in.scoreText()
		if err != nil {
			return err
		}
		return w.scoredText(v, []byte(s))
	})
}

func (w *walker) zset() error {
	return w.each(func(v []byte) error {
		b, err := w.in.next(8)
		if err != nil {
			return err
		}
		return w.scored(v, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	})
}

// expiring hands out a hash's field with its end in Unix milliseconds; 0 means none.
func (w *walker) expiring(f, v []byte, end uint64) error {
	if err := w.emit(partField, f, v); err != nil || end == 0 {
		return err
	}
	w.val = binary.BigEndian.AppendUint64(w.val[:0], end)
	return w.emit(partExpiry, f, w.val)
}

// hashExpiring reads fields with ends that count from the earliest, plus one.
func (w *walker) hashExpiring() error {
	b, err := w.in.next(8)
	if err != nil {
		return err
	}
	earliest := binary.LittleEndian.Uint64(b)
	return w.in.each(func() error {
		end, err := w.in.plainLen()
		if err != nil {
			return err
		}
		if end != 0 {
			end += earliest - 1
		}
		f, err := w.in.view()
		if err != nil {
			return err
		}
		v, err := w.in.view()
		if err != nil {
			return err
		}
		return w.expiring(f, v, end)
	})
}

// hashValkey reads fields with ends; -1 is none.
func (w *walker) hashValkey() error {
	return w.eachField(func(f, v []byte) error {
		b, err := w.in.next(8)
		if err != nil {
			return err
		}
		end := binary.LittleEndian.Uint64(b)
		if end == math.MaxUint64 {
			end = 0
		}
		return w.expiring(f, v, end)
	})
}

// pairs reads elements of a compact form two by two.
func pairs(all func(func([]byte) error) error, f func(a, b []byte) error) error {
	var first []byte
	have := false
	err := all(func(v []byte) error {
		if !have {
			first, have = append(first[:0], v...), true
			return nil
		}
		have = false
		return f(first, v)
	})
	if err == nil && have {
		err = errCompact
	}
	return err
}

// compact reads the string in which a compact form lies.
func (w *walker) compact(each func(*walker, []byte, func([]byte) error) error) func(func([]byte) error) error {
	return func(f func([]byte) error) error {
		b, err := w.in.view()
		if err != nil {
			return err
		}
		return each(w, b, f)
	}
}

func (w *walker) field(f, v []byte) error { return w.emit(partField, f, v) }

func (w *walker) listZiplist() error  { return w.compact((*walker).ziplist)(w.element) }
func (w *walker) zsetZiplist() error  { return pairs(w.compact((*walker).ziplist), w.scoredText) }
func (w *walker) hashZiplist() error  { return pairs(w.compact((*walker).ziplist), w.field) }
func (w *walker) zsetListpack() error { return pairs(w.compact((*walker).listpack), w.scoredText) }
func (w *walker) hashListpack() error { return pairs(w.compact((*walker).listpack), w.field) }
func (w *walker) setListpack() error  { return w.compact((*walker).listpack)(w.member) }
func (w *walker) setIntset() error    { return w.compact((*walker).intset)(w.member) }
func (w *walker) hashZipmap() error   { return pairs(w.compact((*walker).zipmap), w.field) }

// hashListpackEx reads triples of field, value and end.
func (w *walker) hashListpackEx() error {
	if _, err := w.in.next(8); err != nil {
		return err
	}
	var triple [2][]byte
	n := 0
	err := w.compact((*walker).listpack)(func(v []byte) error {
		if n < 2 {
			triple[n] = append(triple[n][:0], v...)
			n++
			return nil
		}
		n = 0
		end, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return errCompact
		}
		return w.expiring(triple[0], triple[1], end)
	})
	if err == nil && n != 0 {
		err = errCompact
	}
	return err
}

func (w *walker) quicklist() error {
	return w.in.each(func() error { return w.compact((*walker).ziplist)(w.element) })
}

// quicklist2 reads nodes that hold one long element, or a listpack.
func (w *walker) quicklist2() error {
	const plain, packed = 1, 2
	return w.in.each(func() error {
		form, err := w.in.plainLen()
		if err != nil {
			return err
		}
		switch form {
		case plain:
			v, err := w.in.view()
			if err != nil {
				return err
			}
			return w.element(v)
		case packed:
			return w.compact((*walker).listpack)(w.element)
		}
		return errCompact
	})
}
