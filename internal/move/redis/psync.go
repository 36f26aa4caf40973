package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move/redis/resp"
)

const (
	// forkTimeout bounds the wait for a snapshot to begin: the server may be busy
	// with another one, or wait for more replicas (repl-diskless-sync-delay).
	forkTimeout = 10 * time.Minute
	// newlineEvery is how often a primary that sends a snapshot hears that we are there.
	newlineEvery = time.Second
	// markLength is the length of the mark that ends a snapshot sent as it is made.
	markLength = 40
)

// psync is a replication connection: the server takes us for a replica of its own.
// First comes a snapshot, if full, and then every command that writes.
type psync struct {
	*wire
	// replid and offset name the position at which the stream begins: the bytes
	// before offset are in the snapshot, or are held already.
	replid string
	offset int64
	full   bool
}

// dialPSYNC asks for the stream behind the position: of replid, offset bytes are
// held already. An empty replid asks for a snapshot. When it returns a full one, the
// server has forked: the snapshot that follows is of this instant. The context
// bounds the attempt, not what follows.
func dialPSYNC(ctx context.Context, o *redis.Options, replid string, offset int64) (_ *psync, err error) {
	w, err := dialWire(ctx, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, forkTimeout)
	defer cancel()
	stop := w.closeWith(ctx)
	defer func() {
		if !stop() {
			err = ctx.Err()
		}
		if err != nil {
			w.hangUp()
		}
	}()
	if _, err := w.ask("REPLCONF", "capa", "eof", "capa", "psync2"); err != nil {
		return nil, fmt.Errorf("ask to be a replica: %w", err)
	}
	from := strconv.FormatInt(offset+1, 10)
	if replid == "" {
		replid, from = "?", "-1"
	}
	line, err := w.ask("PSYNC", replid, from)
	if err != nil {
		return nil, fmt.Errorf("ask for the stream of changes: %w", err)
	}
	p := &psync{wire: w, replid: replid, offset: offset}
	words := strings.Fields(line)
	switch {
	case len(words) == 3 && words[0] == "+FULLRESYNC":
		p.replid, p.full = words[1], true
		if p.offset, err = strconv.ParseInt(words[2], 10, 64); err != nil {
			return nil, fmt.Errorf("the server's position %q is no number", words[2])
		}
	case len(words) >= 1 && words[0] == "+CONTINUE":
		if len(words) > 1 {
			p.replid = words[1]
		}
	default:
		return nil, fmt.Errorf("the server answers %q where a position should come", line)
	}
	return p, nil
}

// snapshot waits for the snapshot of a full connection and returns its bytes,
// which end where it ends. Size is -1 where the server sends it as it is made.
func (p *psync) snapshot() (r io.Reader, size int64, err error) {
	line, err := p.answer()
	if err != nil {
		return nil, 0, fmt.Errorf("wait for the snapshot: %w", err)
	}
	if mark, ok := strings.CutPrefix(line, "$EOF:"); ok {
		if len(mark) != markLength {
			return nil, 0, errors.New("the snapshot's mark has an unknown form")
		}
		return &marked{p.wire, []byte(mark)}, -1, nil
	}
	size, err = strconv.ParseInt(strings.TrimPrefix(line, "$"), 10, 64)
	if err != nil || size < 0 {
		return nil, 0, fmt.Errorf("the server answers %q where a snapshot should come", line)
	}
	return &sized{p.br, size}, size, nil
}

// sized ends after so many bytes; a connection that ends before is an error.
type sized struct {
	r    io.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// commands reads the stream, once the snapshot is read to its end.
func (p *psync) commands() *resp.Reader { return resp.NewReader(p.br, p.offset) }

// ack tells the server up to where its stream is held. Calls must not overlap.
func (p *psync) ack(offset int64) error {
	_, err := p.Write(resp.Append(nil, "REPLCONF", "ACK", strconv.FormatInt(offset, 10)))
	return err
}

// marked ends where a mark of random characters stands.
type marked struct {
	w    *wire
	mark []byte
}

func (m *marked) Read(p []byte) (int, error) {
	if m.mark == nil {
		return 0, io.EOF
	}
	head, err := m.w.br.Peek(markLength)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	if bytes.Equal(head, m.mark) {
		if _, err := m.w.br.Discard(markLength); err != nil {
			return 0, err
		}
		m.mark = nil
		return 0, io.EOF
	}
	b, err := m.w.br.Peek(m.w.br.Buffered())
	if err != nil {
		return 0, err
	}
	n := len(b) - markLength + 1 // the mark may begin behind
	if i := bytes.Index(b, m.mark); i >= 0 {
		n = i
	}
	n = copy(p, b[:n])
	_, err = m.w.br.Discard(n)
	return n, err
}
