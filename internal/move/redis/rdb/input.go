package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// bufferSize is how much is read at once, in bytes.
const bufferSize = 256 << 10

// errTooLong refuses a value before it fills the memory.
var errTooLong = fmt.Errorf("a value is longer than %d MiB, which is all that one command can carry: split it at the source", MaxValue>>20)

// input is a snapshot's bytes: it sums them, and records those of a value. A
// length that the snapshot claims allocates nothing: what is recorded grows with
// what has arrived.
type input struct {
	src       io.Reader
	buf       []byte
	r, w      int    // what of buf is not read yet
	summed    int    // up to where buf is in crc
	crc       uint64 // of all before
	total     int64
	sticky    error
	rec       []byte
	recording bool
}

// fill makes n bytes available; n is at most the buffer's size.
func (in *input) fill(n int) error {
	if in.w-in.r >= n {
		return nil
	}
	if in.sticky != nil {
		return in.sticky
	}
	if in.r > 0 && len(in.buf)-in.r < n || in.r == in.w {
		in.crc = Checksum(in.crc, in.buf[in.summed:in.r])
		copy(in.buf, in.buf[in.r:in.w])
		in.w -= in.r
		in.r, in.summed = 0, 0
	}
	for empty := 0; in.w-in.r < n; {
		if in.sticky != nil {
			return in.sticky
		}
		got, err := in.src.Read(in.buf[in.w:])
		in.w += got
		in.sticky = err
		if got > 0 {
			empty = 0
		} else if empty++; empty > 100 && err == nil {
			return io.ErrNoProgress
		}
	}
	return nil
}

// sum is the checksum of all that was read.
func (in *input) sum() uint64 {
	in.crc = Checksum(in.crc, in.buf[in.summed:in.r])
	in.summed = in.r
	return in.crc
}

// next takes n bytes, which are valid until the next call; n is at most the buffer's size.
func (in *input) next(n int) ([]byte, error) {
	if err := in.fill(n); err != nil {
		return nil, err
	}
	b := in.buf[in.r : in.r+n]
	in.r += n
	in.total += int64(n)
	if in.recording {
		if err := in.record(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (in *input) record(b []byte) error {
	if len(in.rec)+len(b) > MaxValue {
		return errTooLong
	}
	in.rec = append(in.rec, b...)
	return nil
}

func (in *input) byte() (byte, error) {
	b, err := in.next(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// copyTo appends n bytes to dst, as they arrive.
func (in *input) copyTo(dst []byte, n uint64) ([]byte, error) {
	for n > 0 {
		if err := in.fill(1); err != nil {
			return dst, err
		}
		b, err := in.next(int(min(n, uint64(in.w-in.r))))
		if err != nil {
			return dst, err
		}
		dst = append(dst, b...)
		n -= uint64(len(b))
	}
	return dst, nil
}

// discard skips n bytes, recorded or not.
func (in *input) discard(n uint64) error {
	for n > 0 {
		if err := in.fill(1); err != nil {
			return err
		}
		b, err := in.next(int(min(n, uint64(in.w-in.r))))
		if err != nil {
			return err
		}
		n -= uint64(len(b))
	}
	return nil
}

// The forms of a string whose first byte does not tell its length.
const (
	encInt8 = iota
	encInt16
	encInt32
	encLZF
)

// length reads a length, or the special form of a string.
func (in *input) length() (n uint64, special bool, err error) {
	b, err := in.byte()
	if err != nil {
		return 0, false, err
	}
	switch b >> 6 {
	case 0:
		return uint64(b & 0x3f), false, nil
	case 1:
		c, err := in.byte()
		return uint64(b&0x3f)<<8 | uint64(c), false, err
	case 3:
		return uint64(b & 0x3f), true, nil
	}
	switch b {
	case 0x80:
		p, err := in.next(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(p)), false, nil
	case 0x81:
		p, err := in.next(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(p), false, nil
	}
	return 0, false, fmt.Errorf("a length begins with %#x", b)
}

// plainLen reads a length that must be a number.
func (in *input) plainLen() (uint64, error) {
	n, special, err := in.length()
	if err == nil && special {
		err = errors.New("a string stands where a number should")
	}
	return n, err
}

// skipString passes over a string.
func (in *input) skipString() error {
	n, special, err := in.length()
	if err != nil {
		return err
	}
	if !special {
		return in.discard(n)
	}
	switch n {
	case encInt8, encInt16, encInt32:
		return in.discard(1 << n)
	case encLZF:
		packed, err := in.plainLen()
		if err != nil {
			return err
		}
		if _, err := in.plainLen(); err != nil {
			return err
		}
		return in.discard(packed)
	}
	return fmt.Errorf("a string of the unknown form %d", n)
}

// string appends a string to dst; one longer than limit is refused.
func (in *input) string(dst []byte, limit uint64) ([]byte, error) {
	n, special, err := in.length()
	if err != nil {
		return dst, err
	}
	if !special {
		if n > limit {
			return dst, errTooLong
		}
		return in.copyTo(dst, n)
	}
	switch n {
	case encInt8:
		b, err := in.next(1)
		if err != nil {
			return dst, err
		}
		return strconv.AppendInt(dst, int64(int8(b[0])), 10), nil
	case encInt16:
		b, err := in.next(2)
		if err != nil {
			return dst, err
		}
		return strconv.AppendInt(dst, int64(int16(binary.LittleEndian.Uint16(b))), 10), nil
	case encInt32:
		b, err := in.next(4)
		if err != nil {
			return dst, err
		}
		return strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(b))), 10), nil
	case encLZF:
		return in.packed(dst, limit)
	}
	return dst, fmt.Errorf("a string of the unknown form %d", n)
}

// packed appends a compressed string to dst.
func (in *input) packed(dst []byte, limit uint64) ([]byte, error) {
	size, err := in.plainLen()
	if err != nil {
		return dst, err
	}
	whole, err := in.plainLen()
	if err != nil {
		return dst, err
	}
	if size > limit || whole > limit {
		return dst, errTooLong
	}
	packed, err := in.copyTo(nil, size)
	if err != nil {
		return dst, err
	}
	return unpack(dst, packed, int(whole))
}

// over reads what lies in memory already; nothing is copied, and next takes any length.
func over(b []byte) input { return input{buf: b, w: len(b), sticky: io.ErrUnexpectedEOF} }

// view is a string that lies in memory: a part of it, or unpacked.
func (in *input) view() ([]byte, error) {
	at := in.r
	n, special, err := in.length()
	if err != nil {
		return nil, err
	}
	if special {
		in.r = at
		return in.string(nil, MaxValue)
	}
	if n > uint64(in.w-in.r) {
		return nil, io.ErrUnexpectedEOF
	}
	return in.next(int(n))
}
