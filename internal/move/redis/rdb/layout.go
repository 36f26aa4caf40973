package rdb

import "fmt"

// The types of values.
const (
	typeString          = 0
	typeList            = 1
	typeSet             = 2
	typeZset            = 3
	typeHash            = 4
	typeZset2           = 5
	typeModulePre       = 6
	typeModule          = 7
	typeHashZipmap      = 9
	typeListZiplist     = 10
	typeSetIntset       = 11
	typeZsetZiplist     = 12
	typeHashZiplist     = 13
	typeListQuicklist   = 14
	typeStream          = 15
	typeHashListpack    = 16
	typeZsetListpack    = 17
	typeListQuicklist2  = 18
	typeStream2         = 19
	typeSetListpack     = 20
	typeStream3         = 21
	typeHashExpiringPre = 22 // of a release candidate of Redis 7.4
	typeHashExpiring22  = 22 // of Valkey 9
	typeHashListpackPre = 23
	typeHashExpiring    = 24
	typeHashListpackEx  = 25
)

// layout is how a type's value lies in the snapshot.
type layout struct {
	name string
	// since is the version of the format that brought it.
	since uint16
	// skip passes over a value.
	skip func(*input) error
	// walk takes a value apart.
	walk func(*walker) error
}

// layouts are the types by their number.
var layouts = [...]*layout{
	typeString:         {"string", 6, (*input).skipString, (*walker).string},
	typeList:           {"list", 6, stringsOf(1), (*walker).list},
	typeSet:            {"set", 6, stringsOf(1), (*walker).set},
	typeZset:           {"zset", 6, (*input).skipZset, (*walker).zsetText},
	typeHash:           {"hash", 6, stringsOf(2), (*walker).hash},
	typeZset2:          {"zset", 8, (*input).skipZset2, (*walker).zset},
	typeHashZipmap:     {"hash", 6, (*input).skipString, (*walker).hashZipmap},
	typeListZiplist:    {"list", 6, (*input).skipString, (*walker).listZiplist},
	typeSetIntset:      {"set", 6, (*input).skipString, (*walker).setIntset},
	typeZsetZiplist:    {"zset", 6, (*input).skipString, (*walker).zsetZiplist},
	typeHashZiplist:    {"hash", 6, (*input).skipString, (*walker).hashZiplist},
	typeListQuicklist:  {"list", 7, stringsOf(1), (*walker).quicklist},
	typeStream:         {"stream", 9, stream(1), (*walker).stream1},
	typeHashListpack:   {"hash", 10, (*input).skipString, (*walker).hashListpack},
	typeZsetListpack:   {"zset", 10, (*input).skipString, (*walker).zsetListpack},
	typeListQuicklist2: {"list", 10, (*input).skipQuicklist2, (*walker).quicklist2},
	typeStream2:        {"stream", 10, stream(2), (*walker).stream2},
	typeSetListpack:    {"set", 11, (*input).skipString, (*walker).setListpack},
	typeStream3:        {"stream", 11, stream(3), (*walker).stream3},
	typeHashExpiring:   {"hash", 12, (*input).skipHashExpiring, (*walker).hashExpiring},
	typeHashListpackEx: {"hash", 12, (*input).skipHashListpackEx, (*walker).hashListpackEx},
}

// valkeyHash is Valkey's type of the number that a candidate of Redis used for another.
var valkeyHash = &layout{"hash", newestValkey, (*input).skipHashValkey, (*walker).hashValkey}

func layoutOf(typ byte, valkey bool) *layout {
	switch {
	case valkey && typ == typeHashExpiring22:
		return valkeyHash
	case int(typ) < len(layouts):
		return layouts[typ]
	}
	return nil
}

// each runs f as often as the length that stands there says.
func (in *input) each(f func() error) error {
	n, err := in.plainLen()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// lens passes over n lengths.
func (in *input) lens(n int) error {
	for range n {
		if _, err := in.plainLen(); err != nil {
			return err
		}
	}
	return nil
}

// stringsOf passes over elements of n strings each.
func stringsOf(n int) func(*input) error {
	return func(in *input) error {
		return in.each(func() error {
			for range n {
				if err := in.skipString(); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func (in *input) skipZset() error {
	return in.each(func() error {
		if err := in.skipString(); err != nil {
			return err
		}
		_, err := in.scoreText()
		return err
	})
}

// The lengths of a score's text that mean something else.
const (
	scoreNaN = 253
	scoreInf = 254
	scoreNeg = 255
)

// scoreText reads a score that is written as text.
func (in *input) scoreText() (string, error) {
	n, err := in.byte()
	if err != nil {
		return "", err
	}
	switch n {
	case scoreNaN:
		return "nan", nil
	case scoreInf:
		return "inf", nil
	case scoreNeg:
		return "-inf", nil
	}
	b, err := in.next(int(n))
	return string(b), err
}

func (in *input) skipZset2() error {
	return in.each(func() error {
		if err := in.skipString(); err != nil {
			return err
		}
		return in.discard(8)
	})
}

func (in *input) skipQuicklist2() error {
	return in.each(func() error {
		if _, err := in.plainLen(); err != nil {
			return err
		}
		return in.skipString()
	})
}

func (in *input) skipHashExpiring() error {
	if err := in.discard(8); err != nil {
		return err
	}
	return in.each(func() error {
		if _, err := in.plainLen(); err != nil {
			return err
		}
		if err := in.skipString(); err != nil {
			return err
		}
		return in.skipString()
	})
}

func (in *input) skipHashListpackEx() error {
	if err := in.discard(8); err != nil {
		return err
	}
	return in.skipString()
}

func (in *input) skipHashValkey() error {
	return in.each(func() error {
		if err := in.skipString(); err != nil {
			return err
		}
		if err := in.skipString(); err != nil {
			return err
		}
		return in.discard(8)
	})
}

const streamID = 16 // bytes of an entry's id

// stream passes over a stream of the given version of its layout.
func stream(version int) func(*input) error {
	return func(in *input) error {
		if err := stringsOf(2)(in); err != nil { // the nodes: first id and entries
			return err
		}
		head := 3 // length, last id
		group := 2
		if version >= 2 {
			head += 5 // first id, greatest deleted id, entries added
			group++   // entries read
		}
		if err := in.lens(head); err != nil {
			return err
		}
		return in.each(func() error {
			if err := in.skipString(); err != nil {
				return err
			}
			if err := in.lens(group); err != nil {
				return err
			}
			if err := in.each(func() error { // pending entries
				if err := in.discard(streamID + 8); err != nil {
					return err
				}
				return in.lens(1)
			}); err != nil {
				return err
			}
			return in.each(func() error { // consumers
				if err := in.skipString(); err != nil {
					return err
				}
				seen := uint64(8)
				if version >= 3 {
					seen += 8
				}
				if err := in.discard(seen); err != nil {
					return err
				}
				return in.each(func() error { return in.discard(streamID) })
			})
		})
	}
}

// TypeOf names the type of a RESTORE payload.
func TypeOf(payload []byte) (string, error) {
	t, _, err := open(payload)
	if err != nil {
		return "", err
	}
	return t.name, nil
}

var errPayload = fmt.Errorf("not the payload of a key")
