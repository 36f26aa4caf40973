package resp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// maxDepth bounds answers within answers.
	maxDepth = 32
	// maxError bounds what is kept of an error's text, in bytes.
	maxError = 512
)

// Answer is what a server answered to one command, as far as a pipeline cares.
type Answer struct {
	// Err is the text of an error, or empty.
	Err string
	// Nil says that the answer was nothing: of EXEC, that it did not take place.
	Nil bool
	// Int is the answer if it was a number.
	Int int64
	// Elements are how many answers an array held; Errors are those of them that were errors.
	Elements int
	Errors   []ElementError
}

// ElementError is an error within the answer of EXEC.
type ElementError struct {
	Index int
	Err   string
}

// maxElementErrors bounds the errors that are kept of one answer.
const maxElementErrors = 100

// Answers reads the answers to a pipeline.
type Answers struct{ r *bufio.Reader }

// NewAnswers reads answers from src.
func NewAnswers(src io.Reader) *Answers { return &Answers{bufio.NewReaderSize(src, maxLine)} }

// Next waits for the next answer. Texts in it are passed over, not kept.
func (a *Answers) Next() (Answer, error) {
	head, line, err := a.head()
	if err != nil {
		return Answer{}, err
	}
	switch head {
	case '-':
		return Answer{Err: string(line[:min(len(line), maxError)])}, nil
	case ':':
		n, err := strconv.ParseInt(string(line), 10, 64)
		if err != nil {
			return Answer{}, ErrProtocol
		}
		return Answer{Int: n}, nil
	case '*':
		return a.array(line)
	}
	null := len(line) == 2 && line[0] == '-' && line[1] == '1'
	return Answer{Nil: null}, middle(a.pass(head, line, 0))
}

// array reads the answers within an answer, the errors among them.
func (a *Answers) array(line []byte) (Answer, error) {
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil || n < -1 {
		return Answer{}, ErrProtocol
	}
	if n == -1 {
		return Answer{Nil: true}, nil
	}
	var answer Answer
	for i := range int(n) {
		head, line, err := a.head()
		if err != nil {
			return Answer{}, middle(err)
		}
		if head == '-' && len(answer.Errors) < maxElementErrors {
			answer.Errors = append(answer.Errors, ElementError{i, string(line[:min(len(line), maxError)])})
		}
		if err := a.pass(head, line, 1); err != nil {
			return Answer{}, middle(err)
		}
		answer.Elements++
	}
	return answer, nil
}

// head reads the line that begins an answer.
func (a *Answers) head() (byte, []byte, error) {
	line, err := a.r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("%w: a line has no end", ErrProtocol)
		} else if len(line) > 0 {
			err = middle(err)
		}
		return 0, nil, err
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return 0, nil, fmt.Errorf("%w: an empty answer", ErrProtocol)
	}
	return line[0], line[1:], nil
}

// pass reads an answer that began with line to its end.
func (a *Answers) pass(head byte, line []byte, depth int) error {
	switch head {
	case '+', '-', ':':
		return nil
	case '$', '*':
	default:
		return fmt.Errorf("%w: an answer begins with %q", ErrProtocol, head)
	}
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil || n < -1 || n > MaxCommand {
		return fmt.Errorf("%w: %q is no length", ErrProtocol, clip(line))
	}
	if n == -1 {
		return nil
	}
	if head == '$' {
		_, err := a.r.Discard(int(n) + 2)
		return err
	}
	if depth >= maxDepth {
		return fmt.Errorf("%w: answers within answers", ErrProtocol)
	}
	for range n {
		head, line, err := a.head()
		if err != nil {
			return err
		}
		if err := a.pass(head, line, depth+1); err != nil {
			return err
		}
	}
	return nil
}
