// Package rdb reads the snapshots of Redis 6.2 to 7.4 and of Valkey up to 9, as a
// server writes them to its replicas. Each value is passed on as the payload that
// RESTORE takes, without being understood; Digest and Diff look into a payload, and
// see no difference between two encodings of the same value. It neither writes
// snapshots nor reads modules' data.
package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// MaxValue is the longest value that is taken, in bytes: the longest argument
	// of a command (proto-max-bulk-len), so that RESTORE could take no longer one.
	MaxValue = 512 << 20
	// maxKey bounds a key, and maxAux a field of the header, in bytes.
	maxKey = 512 << 20
	maxAux = 64 << 20
	// newest and newestValkey are the versions of the format that are understood.
	newest       = 12
	newestValkey = 80
	oldest       = 5
)

// ErrModule says that the snapshot holds a module's data, which only that module understands.
var ErrModule = errors.New("the data of a module can not be moved: remove it, or move it with the module's own tools")

// Kind says what an Entry is.
type Kind uint8

// The kinds of entries.
const (
	KindKey      Kind = iota // a key with its value
	KindFunction             // a library of functions: Code is its source
	KindScript               // a cached script of Redis 6.2: Code is its source
)

// Entry is one piece of a snapshot. Its slices are valid until the next call of Next.
type Entry struct {
	Kind Kind
	DB   int
	Key  []byte
	// Expiry is the key's end in Unix milliseconds; 0 means none.
	Expiry int64
	// Type is the name that TYPE answers: string, list, set, zset, hash or stream.
	Type string
	// Payload is what RESTORE takes: type, value, version and checksum.
	Payload []byte
	Code    []byte
}

// Reader reads a snapshot from its first byte to its last.
type Reader struct {
	in      input
	version int
	valkey  bool
	db      int
	aux     map[string]string
	keys    int64
	started bool
	done    bool
	key     []byte
	payload []byte
}

// NewReader reads the snapshot from src, which ends where the snapshot does: the
// Reader reads ahead.
func NewReader(src io.Reader) *Reader {
	return &Reader{in: input{src: src, buf: make([]byte, bufferSize)}, aux: map[string]string{}}
}

// Version is the format's version, once Next has been called.
func (r *Reader) Version() int { return r.version }

// Aux is a field of the header ("redis-ver", "repl-id", …), or empty.
func (r *Reader) Aux(name string) string { return r.aux[name] }

// Keys is the number of keys that the databases announced so far, or 0.
func (r *Reader) Keys() int64 { return r.keys }

// Bytes is how much of the snapshot was read.
func (r *Reader) Bytes() int64 { return r.in.total }

// The marks between keys.
const (
	opSlotImport  = 243
	opSlotInfo    = 244
	opFunction    = 245
	opFunctionPre = 246
	opModuleAux   = 247
	opIdle        = 248
	opFreq        = 249
	opAux         = 250
	opResize      = 251
	opExpireMS    = 252
	opExpire      = 253
	opSelect      = 254
	opEOF         = 255
)

// Next returns the next entry, and io.EOF after the last once the snapshot's
// checksum is proved. Any other error is final.
func (r *Reader) Next() (Entry, error) {
	e, err := r.next()
	switch {
	case err == nil, errors.Is(err, io.EOF) && r.done:
		return e, err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return Entry{}, fmt.Errorf("read the snapshot at byte %d: %w", r.in.total, err)
}

func (r *Reader) next() (Entry, error) {
	if r.done {
		return Entry{}, io.EOF
	}
	if !r.started {
		if err := r.header(); err != nil {
			return Entry{}, err
		}
		r.started = true
	}
	var expiry int64
	for {
		op, err := r.in.byte()
		if err != nil {
			return Entry{}, err
		}
		switch op {
		case opAux:
			e, script, err := r.auxField()
			if err != nil || script {
				return e, err
			}
		case opSelect:
			db, err := r.in.plainLen()
			if err != nil {
				return Entry{}, err
			}
			if db > 1<<30 {
				return Entry{}, fmt.Errorf("database number %d", db)
			}
			r.db = int(db)
		case opResize:
			n, err := r.in.plainLen()
			if err != nil {
				return Entry{}, err
			}
			if _, err = r.in.plainLen(); err != nil {
				return Entry{}, err
			}
			if n < 1<<62 {
				r.keys += int64(n)
			}
		case opExpireMS:
			b, err := r.in.next(8)
			if err != nil {
				return Entry{}, err
			}
			expiry = int64(binary.LittleEndian.Uint64(b))
		case opExpire:
			b, err := r.in.next(4)
			if err != nil {
				return Entry{}, err
			}
			expiry = int64(binary.LittleEndian.Uint32(b)) * 1000
		case opFreq:
			if _, err := r.in.byte(); err != nil {
				return Entry{}, err
			}
		case opIdle:
			if _, err := r.in.plainLen(); err != nil {
				return Entry{}, err
			}
		case opSlotInfo:
			for range 3 {
				if _, err := r.in.plainLen(); err != nil {
					return Entry{}, err
				}
			}
		case opSlotImport:
			return Entry{}, errors.New("a slot of the cluster is being moved: wait until it has moved, and begin again")
		case opFunction:
			code, err := r.in.string(r.payload[:0], MaxValue)
			r.payload = code
			return Entry{Kind: KindFunction, Code: code}, err
		case opFunctionPre:
			return Entry{}, errors.New("functions of a release candidate of Redis 7.0: take a released version")
		case opModuleAux:
			return Entry{}, ErrModule
		case opEOF:
			return Entry{}, r.trailer()
		default:
			return r.value(op, expiry)
		}
	}
}

// header reads "REDIS0011" or "VALKEY080".
func (r *Reader) header() error {
	b, err := r.in.next(9)
	if err != nil {
		return err
	}
	digits := string(b[5:])
	switch {
	case string(b[:5]) == "REDIS":
	case string(b[:6]) == "VALKEY":
		r.valkey, digits = true, string(b[6:])
	default:
		return fmt.Errorf("not a snapshot: it begins with %q", b)
	}
	if r.version, err = strconv.Atoi(digits); err != nil {
		return fmt.Errorf("not a snapshot: it begins with %q", b)
	}
	top := newest
	if r.valkey {
		top = newestValkey
	}
	if r.version < oldest || r.version > top {
		return fmt.Errorf("version %d of the format is not known: it needs Redis 3 to 7.4 or Valkey up to 9", r.version)
	}
	return nil
}

// auxField reads a field of the header; those of Redis 6.2 named "lua" are scripts.
func (r *Reader) auxField() (Entry, bool, error) {
	name, err := r.in.string(nil, maxAux)
	if err != nil {
		return Entry{}, false, err
	}
	value, err := r.in.string(r.payload[:0], maxAux)
	if err != nil {
		return Entry{}, false, err
	}
	r.payload = value
	if string(name) == "lua" {
		return Entry{Kind: KindScript, Code: value}, true, nil
	}
	const most, long = 64, 256 // no server writes as many, or as long ones
	if len(r.aux) < most && len(name) < long && len(value) < long {
		r.aux[string(name)] = string(value)
	}
	return Entry{}, false, nil
}

// value reads a key and records its value.
func (r *Reader) value(typ byte, expiry int64) (Entry, error) {
	t, err := r.typeOf(typ)
	if err != nil {
		return Entry{}, err
	}
	if r.key, err = r.in.string(r.key[:0], maxKey); err != nil {
		return Entry{}, err
	}
	r.payload = append(r.payload[:0], typ)
	r.in.rec, r.in.recording = r.payload, true
	err = t.skip(&r.in)
	r.payload, r.in.recording = r.in.rec, false
	r.in.rec = nil
	if err != nil {
		return Entry{}, err
	}
	r.payload = seal(r.payload, t.since)
	return Entry{DB: r.db, Key: r.key, Expiry: expiry, Type: t.name, Payload: r.payload}, nil
}

func (r *Reader) typeOf(typ byte) (*layout, error) {
	t := layoutOf(typ, r.valkey && r.version >= newestValkey)
	switch {
	case t == nil && (typ == typeModule || typ == typeModulePre):
		return nil, ErrModule
	case t == nil:
		return nil, fmt.Errorf("type %d of a value is not known", typ)
	}
	return t, nil
}

// trailer proves the checksum; 0 means that the server was told to write none.
func (r *Reader) trailer() error {
	sum := r.in.sum()
	b, err := r.in.next(8)
	if err != nil {
		return err
	}
	if want := binary.LittleEndian.Uint64(b); want != 0 && want != sum {
		return errors.New("its checksum does not fit: it was damaged on the way")
	}
	// The source is read to its own end, which may be a mark behind the snapshot.
	switch err := r.in.fill(1); {
	case err == nil:
		return errors.New("it goes on behind its end")
	case !errors.Is(err, io.EOF):
		return err
	}
	r.done = true
	return io.EOF
}

// seal ends a payload: the oldest version of the format that has its type, so
// that older servers take what they understand, and the checksum.
func seal(payload []byte, since uint16) []byte {
	payload = binary.LittleEndian.AppendUint16(payload, since)
	return binary.LittleEndian.AppendUint64(payload, Checksum(0, payload))
}
