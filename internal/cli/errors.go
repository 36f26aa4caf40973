package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"dhow/internal/estate"
	"dhow/internal/move"
)

// usageError says that the command was called wrongly.
type usageError struct {
	text string
	// see is the command whose help says more; empty means none.
	see string
}

func (e *usageError) Error() string { return e.text }

// exitError ends the command with failure when its output has said why already.
type exitError struct{ why string }

func (e *exitError) Error() string { return e.why }

// missingFileError says that there is no estate file: the command was called in the
// wrong place.
type missingFileError struct{ path string }

func (e *missingFileError) Error() string { return "there is no estate file " + e.path }

// partialError says that the command did what it should with what it could read.
type partialError struct{ text, next string }

func (e *partialError) Error() string { return e.text }

func exitCode(err error) int {
	var partial *partialError
	if errors.As(err, &partial) {
		return exitPartial
	}
	var usage *usageError
	var invalid *estate.Invalid
	var missing *missingFileError
	if errors.As(err, &usage) || errors.As(err, &invalid) || errors.As(err, &missing) {
		return exitUsage
	}
	return exitFailed
}

// complaint is an error as it is printed.
type complaint struct {
	Error string `json:"error"`
	// Next is what to do, where the error knows it.
	Next string `json:"next,omitempty"`
	// File, Line and Path are where an estate file is wrong.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Path string `json:"path,omitempty"`
}

// complaints takes an error apart: several that were joined, the problems of an
// estate file, the reason and the fix of a refusal.
func complaints(err error) []complaint {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		var all []complaint
		for _, e := range joined.Unwrap() {
			all = append(all, complaints(e)...)
		}
		return all
	}
	var invalid *estate.Invalid
	if errors.As(err, &invalid) {
		all := make([]complaint, len(invalid.Problems))
		for i, p := range invalid.Problems {
			all[i] = complaint{Error: p.Text, File: invalid.File, Line: p.Line, Path: p.Path}
		}
		return all
	}
	c := complaint{Error: err.Error()}
	var usage *usageError
	var refused *move.Refused
	var missing *missingFileError
	var partial *partialError
	switch {
	case errors.As(err, &missing):
		c.Next = "write one with `dhow init`, or name another with --file"
	case errors.As(err, &refused) && refused.Fix != "":
		c.Error, c.Next = strings.Replace(c.Error, refused.Error(), refused.Reason, 1), refused.Fix
	case errors.As(err, &partial):
		c.Next = partial.next
	case errors.As(err, &usage) && usage.see != "":
		c.Next = fmt.Sprintf("see `%s --help`", usage.see)
	case errors.Is(err, context.Canceled):
		c.Error = "interrupted: " + c.Error
	}
	return []complaint{c}
}

// isJoin tells errors.Join from a sentence that wraps several errors.
func isJoin(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	texts := make([]string, 0, len(joined.Unwrap()))
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
	}
	return err.Error() == strings.Join(texts, "\n")
}

// printError prints an error on standard error, in the chosen form.
func (a *app) printError(err error) {
	list := complaints(err)
	if a.json() {
		out := json.NewEncoder(a.Err)
		out.SetEscapeHTML(false)
		for _, c := range list {
			_ = out.Encode(c) // there is nobody else to tell
		}
		return
	}
	for _, c := range list { // standard error that is gone has nobody to tell
		text := c.Error
		if c.File != "" {
			text = (&estate.Invalid{File: c.File}).Line(estate.Problem{Line: c.Line, Path: c.Path, Text: c.Error})
		}
		_, _ = fmt.Fprintf(a.Err, "%s %s\n", a.err.red("dhow:"), text)
		if c.Next != "" {
			_, _ = fmt.Fprintf(a.Err, "  %s %s\n", a.err.bold("next:"), c.Next)
		}
	}
}
