package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// readBuffer is the read-ahead, in bytes.
	readBuffer = 256 << 10
	// maxLine bounds a line, in bytes; a record has a few hundred.
	maxLine = 64 << 10
)

// Reader reads a history line by line, in memory that does not grow with it.
type Reader struct {
	name   string
	lines  *bufio.Reader
	closer io.Closer
	line   int64
	torn   bool
}

// NewReader reads from r; name is for errors.
func NewReader(r io.Reader, name string) *Reader {
	return &Reader{name: name, lines: bufio.NewReaderSize(r, readBuffer)}
}

// Open reads a file, up to the size that it has now: a history that is still
// written can be read, and what comes later is not seen.
func Open(path string) (*Reader, error) {
	size, err := Size(path)
	if err != nil {
		return nil, err
	}
	return OpenUntil(path, size)
}

// Size is how many bytes of a history are there now.
func Size(path string) (int64, error) {
	s, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look at the history: %w", err)
	}
	if !s.Mode().IsRegular() {
		return 0, fmt.Errorf("the history %s is not a file", path)
	}
	return s.Size(), nil
}

// OpenUntil reads the first size bytes of a file, so that it can be read again
// and is the same.
func OpenUntil(path string, size int64) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	r := NewReader(io.LimitReader(f, size), path)
	r.closer = f
	return r, nil
}

// Next returns the next operation, or io.EOF behind the last. A last line
// without its end is not an operation but what a killed writer leaves: it is
// passed over, and Torn says so. Any other line that can not be read is an error
// with the line's number.
func (r *Reader) Next() (Record, error) {
	line, err := r.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		r.torn = len(line) > 0
		return Record{}, io.EOF
	case errors.Is(err, bufio.ErrBufferFull) || err == nil && len(line) > maxLine:
		return Record{}, fmt.Errorf("%s:%d: the line is longer than %d bytes: this is not a history of the traffic", r.name, r.line+1, maxLine)
	case err != nil:
		return Record{}, fmt.Errorf("read the history %s: %w", r.name, err)
	}
	r.line++
	rec, err := Parse(bytes.TrimRight(line, "\r\n"))
	if err != nil {
		return Record{}, fmt.Errorf("%s:%d: not an operation: %w", r.name, r.line, err)
	}
	return rec, nil
}

// Line is the number of the line that Next returned last, from 1.
func (r *Reader) Line() int64 { return r.line }

// Torn says, behind the end, that the last line was cut off and passed over.
func (r *Reader) Torn() bool { return r.torn }

// Close closes the file, if there is one.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}
