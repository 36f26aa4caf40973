package rdb

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// errCompact says that one of the compact forms of small values is damaged.
var errCompact = errors.New("a compact form is damaged")

// number is an integer's text.
func (w *walker) number(n int64) []byte { return strconv.AppendInt(w.num[:0], n, 10) }

// listpack hands out the elements of a listpack.
func (w *walker) listpack(b []byte, f func([]byte) error) error {
	const head = 6
	if len(b) < head+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return errCompact
	}
	for at := head; at < len(b); {
		if b[at] == 0xff {
			if at != len(b)-1 {
				return errCompact
			}
			return nil
		}
		v, size, ok := w.listpackEntry(b[at:])
		if !ok {
			return errCompact
		}
		at += size + backLength(size)
		if err := f(v); err != nil {
			return err
		}
	}
	return errCompact
}

// backLength is how many bytes tell the size of an entry from its end.
func backLength(size int) int {
	n := 1
	for size > 127 {
		size >>= 7
		n++
	}
	return n
}

// listpackEntry is the entry at b's begin and its size.
func (w *walker) listpackEntry(b []byte) (v []byte, size int, ok bool) {
	text := func(head int, n uint64) ([]byte, int, bool) {
		if head > len(b) || n > uint64(len(b)-head) {
			return nil, 0, false
		}
		return b[head : head+int(n)], head + int(n), true
	}
	c := b[0]
	if c < 0x80 {
		return w.number(int64(c)), 1, true
	}
	if c < 0xc0 {
		return text(1, uint64(c&0x3f))
	}
	if len(b) < 2 {
		return nil, 0, false
	}
	switch {
	case c < 0xe0:
		n := int64(c&0x1f)<<8 | int64(b[1])
		if n >= 1<<12 {
			n -= 1 << 13
		}
		return w.number(n), 2, true
	case c < 0xf0:
		return text(2, uint64(c&0x0f)<<8|uint64(b[1]))
	case c == 0xf0:
		if len(b) < 5 {
			return nil, 0, false
		}
		return text(5, uint64(binary.LittleEndian.Uint32(b[1:])))
	case c <= 0xf4:
		width := [...]int{2, 3, 4, 8}[c-0xf1]
		if len(b) < 1+width {
			return nil, 0, false
		}
		return w.number(signed(b[1 : 1+width])), 1 + width, true
	}
	return nil, 0, false
}

// signed is a little-endian integer of up to eight bytes.
func signed(b []byte) int64 {
	var n uint64
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return int64(n<<shift) >> shift
}

// ziplist hands out the elements of a ziplist, the form before listpacks.
func (w *walker) ziplist(b []byte, f func([]byte) error) error {
	const head = 10
	if len(b) < head+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return errCompact
	}
	for at := head; at < len(b); {
		if b[at] == 0xff {
			if at != len(b)-1 {
				return errCompact
			}
			return nil
		}
		if b[at] == 0xfe {
			at += 4
		}
		at++
		if at >= len(b) {
			return errCompact
		}
		v, size, ok := w.ziplistEntry(b[at:])
		if !ok {
			return errCompact
		}
		at += size
		if err := f(v); err != nil {
			return err
		}
	}
	return errCompact
}

// ziplistEntry is the entry at b's begin, behind the length of the one before, and its size.
func (w *walker) ziplistEntry(b []byte) (v []byte, size int, ok bool) {
	var head int
	var n uint64
	c := b[0]
	switch c >> 6 {
	case 0:
		head, n = 1, uint64(c&0x3f)
	case 1:
		if len(b) < 2 {
			return nil, 0, false
		}
		head, n = 2, uint64(c&0x3f)<<8|uint64(b[1])
	case 2:
		if len(b) < 5 {
			return nil, 0, false
		}
		head, n = 5, uint64(binary.BigEndian.Uint32(b[1:]))
	default:
		return w.ziplistNumber(b)
	}
	if n > uint64(len(b)-head) {
		return nil, 0, false
	}
	return b[head : head+int(n)], head + int(n), true
}

func (w *walker) ziplistNumber(b []byte) (v []byte, size int, ok bool) {
	var width int
	switch c := b[0]; {
	case c == 0xc0:
		width = 2
	case c == 0xd0:
		width = 4
	case c == 0xe0:
		width = 8
	case c == 0xf0:
		width = 3
	case c == 0xfe:
		width = 1
	case c >= 0xf1 && c <= 0xfd:
		return w.number(int64(c&0x0f) - 1), 1, true
	default:
		return nil, 0, false
	}
	if len(b) < 1+width {
		return nil, 0, false
	}
	return w.number(signed(b[1 : 1+width])), 1 + width, true
}

// intset hands out the members of a set of integers.
func (w *walker) intset(b []byte, f func([]byte) error) error {
	const head = 8
	if len(b) < head {
		return errCompact
	}
	width, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if width != 2 && width != 4 && width != 8 || uint64(n)*uint64(width) != uint64(len(b)-head) {
		return errCompact
	}
	for at := head; at < len(b); at += int(width) {
		if err := f(w.number(signed(b[at : at+int(width)]))); err != nil {
			return err
		}
	}
	return nil
}

// zipmap hands out keys and values of the oldest form of small hashes.
func (w *walker) zipmap(b []byte, f func([]byte) error) error {
	at := 1
	text := func(free bool) ([]byte, bool) {
		if at >= len(b) {
			return nil, false
		}
		n := uint64(b[at])
		at++
		if n == 254 {
			if len(b)-at < 4 {
				return nil, false
			}
			n = uint64(binary.LittleEndian.Uint32(b[at:]))
			at += 4
		}
		var unused uint64
		if free {
			if at >= len(b) {
				return nil, false
			}
			unused = uint64(b[at])
			at++
		}
		if n+unused > uint64(len(b)-at) {
			return nil, false
		}
		v := b[at : at+int(n)]
		at += int(n) + int(unused)
		return v, true
	}
	for at < len(b) {
		if b[at] == 0xff {
			if at != len(b)-1 {
				return errCompact
			}
			return nil
		}
		for _, free := range [...]bool{false, true} {
			v, ok := text(free)
			if !ok {
				return errCompact
			}
			if err := f(v); err != nil {
				return err
			}
		}
	}
	return errCompact
}
