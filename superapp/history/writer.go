package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	// writeBuffer collects lines between two writes to the file, in bytes.
	writeBuffer = 256 << 10
	// flushEvery bounds how much of the history a killed client takes with it.
	flushEvery = time.Second
)

// Writer writes a history. Its methods may be called by many goroutines at once.
type Writer struct {
	path string
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	file   *os.File
	out    *bufio.Writer
	err    error         // the first failure: nothing is written behind it
	failed chan struct{} // closed with err
}

// Create begins a history in a new file. A file that has something in it is
// refused: a history is evidence, and is not written over.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create the history: %w", err)
	}
	s, err := f.Stat()
	if err == nil && s.Size() > 0 {
		err = fmt.Errorf("%s holds a history already: remove it or name another file", path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create the history: %w", err), f.Close())
	}
	w := &Writer{path: path, file: f, out: bufio.NewWriterSize(f, writeBuffer), stop: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{})}
	go w.flushing()
	return w, nil
}

// Append adds an operation. Once the file can not be written it returns the
// first failure, each time.
func (w *Writer) Append(r *Record) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("add to the history: %w", err)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("add to the history: %w", err)
	}
	line = append(line, '\n')
	if len(line) > maxLine {
		return fmt.Errorf("add to the history: a line of %d bytes, of at most %d", len(line), maxLine)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	// A line goes to the file with others, or waits; it is not cut by the buffer's end.
	if w.out.Available() < len(line) {
		w.note(w.out.Flush())
	}
	if w.err == nil {
		_, err := w.out.Write(line)
		w.note(err)
	}
	return w.err
}

// Failed is closed when the file can no longer be written.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// Close writes what is left, syncs the file and closes it. It may be called once.
func (w *Writer) Close() error {
	close(w.stop)
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.note(w.out.Flush())
	}
	if w.err == nil {
		w.note(w.file.Sync())
	}
	closed := w.file.Close()
	if w.err != nil {
		return w.err
	}
	w.note(closed)
	return w.err
}

func (w *Writer) flushing() {
	defer close(w.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.mu.Lock()
			if w.err == nil {
				w.note(w.out.Flush())
			}
			w.mu.Unlock()
		}
	}
}

// note keeps the first failure. The lock is held.
func (w *Writer) note(err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write the history %s: %w", w.path, err)
		close(w.failed)
	}
}
