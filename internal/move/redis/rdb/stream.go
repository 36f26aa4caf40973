package rdb

import (
	"encoding/binary"
	"strconv"
)

func (w *walker) stream1() error { return w.stream(1) }
func (w *walker) stream2() error { return w.stream(2) }
func (w *walker) stream3() error { return w.stream(3) }

// stream takes a stream apart. When a consumer was last seen and how many entries a
// group has read are no part of it: a server does not tell its replicas.
func (w *walker) stream(version int) error {
	if err := w.in.each(func() error {
		first, err := w.in.view()
		if err != nil {
			return err
		}
		if len(first) != streamID {
			return errCompact
		}
		node, err := w.in.view()
		if err != nil {
			return err
		}
		return w.streamNode(binary.BigEndian.Uint64(first), binary.BigEndian.Uint64(first[8:]), node)
	}); err != nil {
		return err
	}
	if err := w.numbers(partLast, nil, 3); err != nil {
		return err
	}
	if version >= 2 {
		if err := w.in.lens(2); err != nil { // the first entry's id, which the entries tell
			return err
		}
		if err := w.numbers(partCounters, nil, 3); err != nil {
			return err
		}
	}
	return w.in.each(func() error { return w.group(version) })
}

// numbers hands out a part whose value is the next n numbers.
func (w *walker) numbers(part byte, name []byte, n int) error {
	w.val = w.val[:0]
	for range n {
		v, err := w.in.plainLen()
		if err != nil {
			return err
		}
		w.val = binary.BigEndian.AppendUint64(w.val, v)
	}
	return w.emit(part, name, w.val)
}

// group takes a consumer group apart.
func (w *walker) group(version int) error {
	group, err := w.in.view()
	if err != nil {
		return err
	}
	if err := w.numbers(partGroup, group, 2); err != nil {
		return err
	}
	if version >= 2 {
		if err := w.in.lens(1); err != nil {
			return err
		}
	}
	if err := w.in.each(func() error {
		b, err := w.in.next(streamID + 8)
		if err != nil {
			return err
		}
		w.name = appendText(append(w.name[:0], b[:streamID]...), group)
		w.val = append(w.val[:0], b[streamID:]...)
		times, err := w.in.plainLen()
		if err != nil {
			return err
		}
		w.val = binary.BigEndian.AppendUint64(w.val, times)
		return w.emit(partPending, w.name, w.val)
	}); err != nil {
		return err
	}
	return w.in.each(func() error {
		consumer, err := w.in.view()
		if err != nil {
			return err
		}
		seen := 8
		if version >= 3 {
			seen += 8
		}
		if _, err := w.in.next(seen); err != nil {
			return err
		}
		w.name = appendText(appendText(w.name[:0], group), consumer)
		if err := w.emit(partConsumer, w.name, nil); err != nil {
			return err
		}
		return w.in.each(func() error {
			id, err := w.in.next(streamID)
			if err != nil {
				return err
			}
			w.name = appendText(appendText(append(w.name[:0], id...), group), consumer)
			return w.emit(partOwned, w.name, nil)
		})
	})
}

// appendText appends a text that can be told from what follows.
func appendText(dst, text []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(text)))
	return append(dst, text...)
}

// The flags of an entry in a stream's node.
const (
	entryDeleted    = 1
	entrySameFields = 2
)

// streamNode hands out the entries of one node, whose ids count from ms-seq. The
// node begins with the fields that most of its entries have.
func (w *walker) streamNode(ms, seq uint64, node []byte) error {
	var cells cells
	if err := w.listpack(node, cells.add); err != nil {
		return err
	}
	cells.number() // entries
	cells.number() // deleted ones
	master := cells.texts(cells.number())
	cells.number() // the mark behind them
	for cells.ok() && cells.at < len(cells.ends) {
		flags := cells.number()
		id := [2]uint64{ms + uint64(cells.number()), seq + uint64(cells.number())}
		fields := master
		var values span
		same := flags&entrySameFields != 0
		if same {
			values = cells.texts(int64(master.n))
		} else {
			values = cells.texts(2 * cells.number())
		}
		cells.number() // how long the entry is
		if !cells.ok() {
			return errCompact
		}
		if flags&entryDeleted != 0 {
			continue
		}
		w.name = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(w.name[:0], id[0]), id[1])
		w.val = w.val[:0]
		for i := range values.n {
			if same {
				w.val = appendText(w.val, cells.text(fields.from+i))
			}
			w.val = appendText(w.val, cells.text(values.from+i))
		}
		if err := w.emit(partEntry, w.name, w.val); err != nil {
			return err
		}
	}
	if !cells.ok() {
		return errCompact
	}
	return nil
}

// cells are a node's elements, read one after the other.
type cells struct {
	bytes []byte
	ends  []int
	at    int
	bad   bool
}

// span is a part of the cells.
type span struct{ from, n int }

func (c *cells) add(v []byte) error {
	c.bytes = append(c.bytes, v...)
	c.ends = append(c.ends, len(c.bytes))
	return nil
}

func (c *cells) ok() bool { return !c.bad }

func (c *cells) text(i int) []byte {
	from := 0
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.bytes[from:c.ends[i]]
}

func (c *cells) number() int64 {
	if c.at >= len(c.ends) {
		c.bad = true
		return 0
	}
	n, err := strconv.ParseInt(string(c.text(c.at)), 10, 64)
	c.bad = c.bad || err != nil
	c.at++
	return n
}

func (c *cells) texts(n int64) span {
	if n < 0 || n > int64(len(c.ends)-c.at) {
		c.bad = true
		return span{}
	}
	s := span{c.at, int(n)}
	c.at += int(n)
	return s
}
