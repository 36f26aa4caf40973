package rdb

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Sum is the digest of a value, or of many added up: the order does not matter.
type Sum [2]uint64

// Add adds another digest.
func (s *Sum) Add(o Sum) {
	s[0] += o[0]
	s[1] += o[1]
}

// Sub takes away a digest that was added.
func (s *Sum) Sub(o Sum) {
	s[0] -= o[0]
	s[1] -= o[1]
}

// Digest is the digest of a RESTORE payload's value, the same for each encoding of
// it. Counters says whether the counters of a stream count (entries added,
// greatest deleted id): Redis 6.2 has none.
func Digest(payload []byte, counters bool) (Sum, error) {
	var sum Sum
	var buf []byte
	parts := uint64(0)
	err := walk(payload, func(part byte, name, value []byte) error {
		if part == partCounters && !counters {
			return nil
		}
		parts++
		buf = append(appendText(append(buf[:0], part), name), value...)
		h := sha256.Sum256(buf)
		sum.Add(Sum{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])})
		return nil
	})
	if err != nil {
		return Sum{}, fmt.Errorf("look into a value: %w", err)
	}
	t, err := TypeOf(payload)
	if err != nil {
		return Sum{}, err
	}
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(t), parts))
	sum.Add(Sum{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])})
	return sum, nil
}

// maxNamed bounds a name in a difference's text, in bytes.
const maxNamed = 200

// Diff names the type of two payloads and the first part in which their values
// differ: a field, a member, an element, an entry. It is empty if they are equal.
// No value is in it.
func Diff(a, b []byte, counters bool) (string, error) {
	ta, err := TypeOf(a)
	if err != nil {
		return "", err
	}
	tb, err := TypeOf(b)
	if err != nil {
		return "", err
	}
	if ta != tb {
		return ta + ", not " + tb, nil
	}
	left := map[string]string{}
	if err := walk(a, func(part byte, name, value []byte) error {
		if part == partCounters && !counters {
			return nil
		}
		k := string(part) + string(name)
		if _, twice := left[k]; twice {
			return errCompact // no server makes such a value
		}
		left[k] = string(value)
		return nil
	}); err != nil {
		return "", err
	}
	var found []byte
	note := func(part byte, name []byte) {
		if one := append([]byte{part}, name...); found == nil || bytes.Compare(one, found) < 0 {
			found = one
		}
	}
	if err := walk(b, func(part byte, name, value []byte) error {
		if part == partCounters && !counters {
			return nil
		}
		k := string(part) + string(name)
		v, ok := left[k]
		delete(left, k)
		if !ok || v != string(value) {
			note(part, name)
		}
		return nil
	}); err != nil {
		return "", err
	}
	for k := range left {
		note(k[0], []byte(k[1:]))
	}
	if found == nil {
		return "", nil
	}
	return ta + " " + describe(found[0], found[1:]), nil
}

// describe names a part for people.
func describe(part byte, name []byte) string {
	switch part {
	case partString:
		return "value"
	case partElement:
		return "element " + strconv.FormatUint(binary.BigEndian.Uint64(name), 10)
	case partMember:
		return "member " + quote(name)
	case partField:
		return "field " + quote(name)
	case partExpiry:
		return "expiry of field " + quote(name)
	case partEntry:
		return "entry " + idText(name)
	case partLast:
		return "length or last id"
	case partCounters:
		return "counters"
	case partGroup:
		return "group " + quote(name)
	case partConsumer:
		group, rest := cutText(name)
		consumer, _ := cutText(rest)
		return "consumer " + quote(consumer) + " of group " + quote(group)
	}
	group, _ := cutText(name[streamID:])
	return "pending entry " + idText(name) + " of group " + quote(group)
}

func idText(b []byte) string {
	return fmt.Sprintf("%d-%d", binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]))
}

// cutText reverses appendText.
func cutText(b []byte) (text, rest []byte) {
	n := binary.BigEndian.Uint64(b)
	return b[8 : 8+n], b[8+n:]
}

// quote is a name that can be printed.
func quote(b []byte) string {
	if len(b) > maxNamed {
		return strconv.Quote(string(b[:maxNamed])) + "…"
	}
	return strconv.Quote(string(b))
}
