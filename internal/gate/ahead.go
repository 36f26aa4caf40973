package gate

import (
	"io"
	"net/http"
	"sync"
)

const (
	// aheadEach is the most, in bytes, that is read ahead of one body: an upload
	// waits in the network and leaves the memory to others.
	aheadEach = 1 << 20
	// aheadFirst and aheadChunk are the sizes, in bytes, of the first and of the
	// largest piece that is read ahead of a body whose length is not known.
	aheadFirst = 4 << 10
	aheadChunk = 64 << 10
)

// aheadBody reads a request's body while the request is held, within the bounds:
// then a client that goes away is noticed, and a release does not wait for bodies.
type aheadBody struct {
	bounds *bounds
	src    io.ReadCloser

	mu      sync.Mutex
	changed *sync.Cond
	pieces  [][]byte
	err     error // what the source ended with
	reading bool  // the pump runs, and nobody else may read
	stopped bool  // the pump is to end
	ended   bool  // nobody wants the rest
	bytes   int64 // reserved in the bounds
}

// readAhead begins to read a held request's body; nil when there is none, or none
// that may be read: a client that waits to be told to continue is asking the
// upstream, and trailers belong to whoever reads the body to its end.
func (g *Gate) readAhead(r *http.Request) *aheadBody {
	if r.ContentLength == 0 || r.Header["Expect"] != nil || len(r.Trailer) > 0 {
		return nil
	}
	b := &aheadBody{bounds: &g.bounds, src: r.Body, reading: true}
	b.changed = sync.NewCond(&b.mu)
	length := r.ContentLength
	g.handlers.Go(func() { b.pump(length) })
	return b
}

// pump reads until the body's end, the bounds or the stop.
func (b *aheadBody) pump(length int64) {
	defer b.pumped()
	size, total := int64(aheadFirst), int64(0)
	for {
		if length > 0 {
			size = length - total + 1 // with room to see the end
		}
		size = min(size, aheadChunk, aheadEach-total)
		if size <= 0 || !b.reserve(size) {
			return
		}
		for chunk := make([]byte, size); len(chunk) > 0; {
			n, err := b.src.Read(chunk)
			if !b.add(chunk[:n], err) {
				return
			}
			chunk = chunk[n:]
		}
		total += size
		size *= 2
	}
}

// reserve takes memory for the next piece, if there is room.
func (b *aheadBody) reserve(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || !b.bounds.takeBytes(n) {
		return false
	}
	b.bytes += n
	return true
}

// add keeps what was read, and says whether to go on.
func (b *aheadBody) add(piece []byte, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(piece) > 0 {
		b.pieces = append(b.pieces, piece)
	}
	b.err = err
	b.changed.Broadcast()
	return err == nil && !b.stopped
}

func (b *aheadBody) pumped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.changed.Broadcast()
	b.free()
}

// stop ends the reading ahead; what the client is just sending is still taken.
func (b *aheadBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
}

// end gives the memory back. When the reader is at the source still, it does so
// itself as soon as the server has taken the connection from it.
func (b *aheadBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped, b.ended = true, true
	b.free()
}

// free gives the memory back once nobody uses it. The lock is held.
func (b *aheadBody) free() {
	if b.ended && !b.reading {
		b.pieces = nil
		b.bounds.giveBytes(b.bytes)
		b.bytes = 0
	}
}

// Read gives what was read ahead, then the rest from the client.
func (b *aheadBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	for len(b.pieces) == 0 && b.err == nil && b.reading {
		b.changed.Wait()
	}
	if len(b.pieces) > 0 {
		n := copy(p, b.pieces[0])
		if b.pieces[0] = b.pieces[0][n:]; len(b.pieces[0]) == 0 {
			b.pieces = b.pieces[1:]
		}
		b.mu.Unlock()
		return n, nil
	}
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return b.src.Read(p)
}

func (b *aheadBody) Close() error { return b.src.Close() }
