package redis

import (
	"strconv"
	"time"

	"dhow/internal/move"
	"dhow/internal/move/redis/resp"
)

// A replica never ends a key by itself: it waits until its primary says so. A
// target that is no replica does end keys, and a command that follows in the
// stream would then find nothing where the source had a value: INCR would begin
// anew, EXPIRE would do nothing. So, as long as the stream runs, each expiry at
// the target lies further in the future by expiryPad: no key ends there before
// the source's DEL arrives, however far the stream is behind or however long
// nobody streams. Before the cutover most expiries are made exact, see approach,
// and the rest, those that end within minutes, when the target opens, see settle.
const expiryPad = 1 << 52 // milliseconds: 142,000 years

// expiries says how the expiries of a target stand.
type expiries string

const (
	// expiriesPadded: each is later by expiryPad.
	expiriesPadded expiries = "padded"
	// expiriesExact: each is as at the source, as a server leaves them that was in use.
	expiriesExact expiries = ""
)

// expiriesUntil says that those which end after the instant, in Unix milliseconds of
// the target's clock, may be exact and the others are padded: until then no key ends.
func expiriesUntil(ms int64) expiries { return expiries(strconv.FormatInt(ms, 10)) }

// trueExpiry is what an expiry of the target, in Unix milliseconds, stands for.
func trueExpiry(ms int64) int64 {
	if ms >= expiryPad {
		return ms - expiryPad
	}
	return ms
}

// expiring gives the expiry in a command its pad. A command without one is returned as it is.
func (t *translation) expiring(what []byte, c resp.Command) ([]byte, error) {
	switch string(what) {
	case "PEXPIREAT", "EXPIREAT", "PEXPIRE", "EXPIRE":
		if len(c.Args) < 3 {
			return nil, errStrange(what)
		}
		end, err := t.end(what, c.Args[2], c.Args[1])
		if err != nil {
			return nil, err
		}
		// The conditions (NX, XX, GT, LT) held at the source, or it would have sent
		// nothing; at the target they would compare with a padded expiry.
		t.made = resp.AppendHead(t.made[:0], 3)
		t.made = resp.AppendString(t.made, "PEXPIREAT")
		t.made = resp.AppendBytes(t.made, c.Args[1])
		t.made = resp.AppendInt(t.made, end)
		return t.made, nil
	case "SETEX", "PSETEX":
		if len(c.Args) != 4 {
			return nil, errStrange(what)
		}
		end, err := t.end(what, c.Args[2], c.Args[1])
		if err != nil {
			return nil, err
		}
		t.made = resp.AppendHead(t.made[:0], 5)
		t.made = resp.AppendString(t.made, "SET")
		t.made = resp.AppendBytes(t.made, c.Args[1])
		t.made = resp.AppendBytes(t.made, c.Args[3])
		t.made = resp.AppendString(t.made, "PXAT")
		t.made = resp.AppendInt(t.made, end)
		return t.made, nil
	case "SET":
		return t.option(c, 3)
	case "GETEX":
		return t.option(c, 2)
	case "RESTORE":
		return t.restore(c)
	}
	return c.Raw, nil
}

// option pads the expiry among the options of a command, which begin at from.
func (t *translation) option(c resp.Command, from int) ([]byte, error) {
	for i := from; i+1 < len(c.Args); i++ {
		var name [8]byte
		what := upper(name[:0], c.Args[i])
		switch string(what) {
		case "EX", "PX", "EXAT", "PXAT":
		default:
			continue
		}
		end, err := t.end(what, c.Args[i+1], c.Args[1])
		if err != nil {
			return nil, err
		}
		t.made = resp.AppendHead(t.made[:0], len(c.Args))
		for j, arg := range c.Args {
			switch j {
			case i:
				t.made = resp.AppendString(t.made, "PXAT")
			case i + 1:
				t.made = resp.AppendInt(t.made, end)
			default:
				t.made = resp.AppendBytes(t.made, arg)
			}
		}
		return t.made, nil
	}
	return c.Raw, nil
}

// restore pads the expiry of a RESTORE.
func (t *translation) restore(c resp.Command) ([]byte, error) {
	if len(c.Args) < 4 {
		return nil, errStrange([]byte("RESTORE"))
	}
	if string(c.Args[2]) == "0" {
		return c.Raw, nil
	}
	unit, absolute := []byte("PX"), false
	for _, arg := range c.Args[4:] {
		var name [8]byte
		absolute = absolute || string(upper(name[:0], arg)) == "ABSTTL"
	}
	if absolute {
		unit = []byte("PXAT")
	}
	end, err := t.end(unit, c.Args[2], c.Args[1])
	if err != nil {
		return nil, err
	}
	n := len(c.Args)
	if !absolute {
		n++
	}
	t.made = resp.AppendHead(t.made[:0], n)
	for i, arg := range c.Args {
		if i == 2 {
			t.made = resp.AppendInt(t.made, end)
			continue
		}
		t.made = resp.AppendBytes(t.made, arg)
	}
	if !absolute {
		t.made = resp.AppendString(t.made, "ABSTTL")
	}
	return t.made, nil
}

// end is the expiry that the target is told, of one in the given unit. A time that
// counts from now, as Redis 6.2 sends it, counts from when it is read.
func (t *translation) end(unit, text, key []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, errStrange(unit)
	}
	const most = expiryPad
	switch string(unit) {
	case "PEXPIREAT", "PXAT":
	case "EXPIREAT", "EXAT":
		n *= 1000
	case "PEXPIRE", "PX", "PSETEX":
		n += time.Now().UnixMilli()
	default:
		n = n*1000 + time.Now().UnixMilli()
	}
	if n < 0 || n >= most {
		return 0, &move.Refused{Reason: "a key ends more than 142,000 years from now, or before 1970", Fix: "give it an end that is nearer, or none"}
	}
	return t.padding(n, key, t.db), nil
}

// padding is what the target is told of an expiry. The applier's lock is held.
func (t *translation) padding(end int64, key []byte, db int) int64 {
	if end > t.a.exactAfter {
		return end
	}
	if t.a.near != nil {
		t.a.near.add(db, key)
	}
	return end + expiryPad
}

// moved notes where a command brings a key whose expiry may be padded.
func (t *translation) moved(what []byte, c resp.Command) {
	near := t.a.near
	if near == nil || len(c.Args) < 3 {
		return
	}
	switch string(what) {
	case "RENAME", "RENAMENX":
		near.add(t.db, c.Args[2])
	case "MOVE":
		db, err := strconv.Atoi(string(c.Args[2]))
		if err != nil {
			near.forget()
		}
		near.add(db, c.Args[1])
	case "COPY":
		if len(c.Args) > 4 {
			near.forget() // to another database: rare
		}
		near.add(t.db, c.Args[2])
	case "SWAPDB":
		near.forget()
	}
}
