package gate

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// replayMost is how large a request's body may be, in bytes, to be kept until
// the answer comes, so that it can be sent over another connection when nothing
// at all was sent over the first. Orders of money are far smaller.
const replayMost = 8 << 10

// errBodyGone says that a body can not be sent again.
var errBodyGone = errors.New("the request's body was sent already")

// requestBody is a request's body on its way to the upstream. Closing it does
// nothing, for the transport closes it after every attempt; the exchange's end does.
type requestBody struct {
	x        *exchange // nil when there is no body
	src      io.Reader
	trailers http.Header // the outgoing request's, filled at the body's end
	over     atomic.Bool // the exchange has ended; the server takes the body back

	mu     sync.Mutex
	read   int64
	kept   []byte // what was read of a short body; nil when it is not kept
	ended  bool   // the body was read whole
	failed error  // reading from the client failed
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.src.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(n)
	if b.kept != nil {
		b.kept = append(b.kept, p[:n]...)
	}
	length := b.x.in.ContentLength
	switch {
	case err == io.EOF:
		b.ended = true
		for name := range b.trailers {
			b.trailers[name] = b.x.in.Trailer[name]
		}
	case err != nil:
		b.failed = err
	case length > 0 && b.read >= length:
		b.ended = true
	}
	return n, err
}

func (b *requestBody) Close() error { return nil }

// again gives the body from its beginning on. The transport asks for it when a
// connection turned out to be closed before anything was sent.
func (b *requestBody) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == nil || b.failed != nil {
		return nil, errBodyGone
	}
	return &replay{kept: b.kept, rest: b}, nil
}

// whole says whether the client has nothing more to send.
func (b *requestBody) whole() bool {
	if b.x == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *requestBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// replay is what was read of a body already, then the rest of it.
type replay struct {
	kept []byte
	rest *requestBody
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.kept) > 0 {
		n := copy(p, r.kept)
		r.kept = r.kept[n:]
		return n, nil
	}
	return r.rest.Read(p)
}

func (r *replay) Close() error { return r.rest.Close() }

// emptyBody is a body of no bytes that no transport takes for none.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// answerBody is an answer's body on its way to the client. Once the upstream has
// said its last word, the request is in flight no more, however long the client
// takes to read it.
type answerBody struct {
	x     *exchange // nil when there is no answer, or one that switches protocols
	src   io.ReadCloser
	ended bool  // it was read whole
	err   error // reading it failed
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		b.ended = true
		b.x.pass.leave()
		return n, err
	}
	if b.x.long && b.x.turned.Load() {
		// To the client the event stream is over, so that it asks for it again.
		b.ended = true
		return n, io.EOF
	}
	b.err = err
	return n, err
}

func (b *answerBody) Close() error { return b.src.Close() }
