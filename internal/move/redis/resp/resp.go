// Package resp reads both directions of a Redis server's protocol: the stream of
// commands that a server sends its replicas, counted byte by byte, for a position
// in it is a number of bytes; and the answers to a pipeline of commands. It opens
// no connection.
package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// MaxCommand is the longest command that is taken, in bytes: one argument may
	// have 512 MiB (proto-max-bulk-len).
	MaxCommand = 600 << 20
	// maxLine bounds a line that is no argument, in bytes, as the server does.
	maxLine = 64 << 10
	// bufferSize is how much is read at once; keepSize is the greatest buffer that
	// is kept once a long command has passed. Both in bytes.
	bufferSize = 256 << 10
	keepSize   = 4 << 20
)

// ErrProtocol says that what was read is not the protocol.
var ErrProtocol = errors.New("not the protocol of a Redis server")

// Command is one command. Its slices are valid until the next call of Next.
type Command struct {
	Args [][]byte
	// Raw is the command as it was sent.
	Raw []byte
}

// Reader reads a stream of commands. A length that the stream claims allocates
// nothing: the buffer grows with what has arrived.
type Reader struct {
	src    io.Reader
	buf    []byte
	r, w   int   // what is not taken yet
	at     int   // how far the command at r is read
	offset int64 // of the first byte that is not taken
	spans  []int // begin and end of each argument, from r
	args   [][]byte
}

// NewReader reads commands from src, whose first byte has the given offset.
func NewReader(src io.Reader, offset int64) *Reader {
	return &Reader{src: src, buf: make([]byte, bufferSize), offset: offset}
}

// Offset is the number of bytes up to and with the last command, on top of the first offset.
func (r *Reader) Offset() int64 { return r.offset }

// Buffered is how many bytes have arrived and are not taken yet.
func (r *Reader) Buffered() int { return r.w - r.r }

// Next waits for the next command. Bare line ends between commands are counted and
// passed over. An error is final.
func (r *Reader) Next() (Command, error) {
	for {
		c, err := r.next()
		if err != nil || len(c.Args) > 0 {
			return c, err
		}
	}
}

func (r *Reader) next() (Command, error) {
	r.at = 0
	r.spans = r.spans[:0]
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	line, err := r.line()
	if err != nil {
		return Command{}, err
	}
	if len(line) == 0 || line[0] != '*' {
		return r.inline(line)
	}
	n, err := number(line[1:], MaxCommand)
	if err != nil {
		return Command{}, err
	}
	for ; n > 0; n-- {
		line, err := r.line()
		if err != nil {
			return Command{}, middle(err)
		}
		if len(line) == 0 || line[0] != '$' {
			return Command{}, fmt.Errorf("%w: an argument begins with %q", ErrProtocol, clip(line))
		}
		size, err := number(line[1:], MaxCommand)
		if err != nil {
			return Command{}, err
		}
		if err := r.need(size + 2); err != nil {
			return Command{}, middle(err)
		}
		from := r.at
		r.at += size + 2
		if end := r.r + r.at; r.buf[end-2] != '\r' || r.buf[end-1] != '\n' {
			return Command{}, fmt.Errorf("%w: an argument does not end where it should", ErrProtocol)
		}
		r.spans = append(r.spans, from, from+size)
	}
	return r.take(), nil
}

// inline reads a command that is a line of words.
func (r *Reader) inline(line []byte) (Command, error) {
	from := 0
	for from < len(line) {
		if line[from] == ' ' || line[from] == '\t' {
			from++
			continue
		}
		end := from
		for end < len(line) && line[end] != ' ' && line[end] != '\t' {
			end++
		}
		r.spans = append(r.spans, from, end)
		from = end
	}
	return r.take(), nil
}

// take is the command that was read.
func (r *Reader) take() Command {
	r.args = r.args[:0]
	whole := r.buf[r.r : r.r+r.at]
	for i := 0; i < len(r.spans); i += 2 {
		r.args = append(r.args, whole[r.spans[i]:r.spans[i+1]])
	}
	r.r += r.at
	r.offset += int64(r.at)
	return Command{Args: r.args, Raw: whole}
}

// need makes n bytes available behind what is read of the command.
func (r *Reader) need(n int) error {
	if r.at+n > MaxCommand {
		return fmt.Errorf("a command is longer than %d MiB", MaxCommand>>20)
	}
	for r.w-r.r < r.at+n {
		if err := r.more(); err != nil {
			return err
		}
	}
	return nil
}

// more reads what has arrived, behind what is there.
func (r *Reader) more() error {
	if r.w == len(r.buf) {
		switch {
		case r.r > 0:
			copy(r.buf, r.buf[r.r:r.w])
			r.w -= r.r
			r.r = 0
			if len(r.buf) > keepSize && r.w < bufferSize/2 {
				r.buf = append(make([]byte, 0, bufferSize), r.buf[:r.w]...)[:bufferSize]
			}
		default:
			grown := make([]byte, len(r.buf)+min(len(r.buf), MaxCommand/8))
			copy(grown, r.buf)
			r.buf = grown
		}
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// line reads up to the next line end and returns what is before it.
func (r *Reader) line() ([]byte, error) {
	from := r.at
	for seen := 0; ; {
		rest := r.buf[r.r+from : r.w]
		if i := bytes.IndexByte(rest[seen:], '\n'); i >= 0 {
			line := rest[:seen+i]
			r.at = from + len(line) + 1
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		seen = len(rest)
		if seen > maxLine {
			return nil, fmt.Errorf("%w: a line has no end", ErrProtocol)
		}
		if err := r.more(); err != nil {
			if from > 0 || seen > 0 {
				err = middle(err)
			}
			return nil, err
		}
	}
}

// middle says that the stream ended within a command.
func middle(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func number(text []byte, most int) (int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %q is no length", ErrProtocol, clip(text))
	}
	if n > most {
		return 0, fmt.Errorf("a command is longer than %d MiB", most>>20)
	}
	return n, nil
}

// clip bounds what an error shows of a stream that is not the protocol.
func clip(b []byte) []byte { return b[:min(len(b), 16)] }

// Append appends a command to dst.
func Append(dst []byte, args ...string) []byte {
	dst = AppendHead(dst, len(args))
	for _, a := range args {
		dst = AppendString(dst, a)
	}
	return dst
}

// AppendHead begins a command of n arguments.
func AppendHead(dst []byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, '*'), int64(n), 10), '\r', '\n')
}

// AppendString appends an argument.
func AppendString(dst []byte, s string) []byte {
	dst = append(strconv.AppendInt(append(dst, '$'), int64(len(s)), 10), '\r', '\n')
	return append(append(dst, s...), '\r', '\n')
}

// AppendBytes appends an argument.
func AppendBytes(dst, s []byte) []byte {
	dst = append(strconv.AppendInt(append(dst, '$'), int64(len(s)), 10), '\r', '\n')
	return append(append(dst, s...), '\r', '\n')
}

// AppendInt appends an argument that is a number.
func AppendInt(dst []byte, n int64) []byte {
	var digits [20]byte
	return AppendBytes(dst, strconv.AppendInt(digits[:0], n, 10))
}
