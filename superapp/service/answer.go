package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Codes of refusals that every service gives.
const (
	codeInternal    = "internal"
	codeUnavailable = "unavailable"
	// CodeInvalidRequest is the code of a body or a path that can not be read.
	CodeInvalidRequest = "invalid_request"
	// CodeKeyConflict is the code of a key that was used for another request.
	CodeKeyConflict = "idempotency_conflict"
	// CodeUnknownPath is the code of a path that leads nowhere.
	CodeUnknownPath = "unknown_path"
)

// internalText is all that a client learns of a defect.
const internalText = "the service failed: its log says why, under this request's id"

// Answer is a status and a JSON body.
type Answer struct {
	Status int
	Body   []byte
	// Replayed says that the answer was stored earlier, under the same key.
	Replayed bool
}

// JSON makes an answer of a value.
func JSON(status int, v any) (Answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return Answer{}, fmt.Errorf("write an answer: %w", err)
	}
	return Answer{Status: status, Body: body}, nil
}

func (a Answer) write(w http.ResponseWriter, id string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	h.Set("Cache-Control", "no-store")
	h.Set(requestIDHeader, id)
	if a.Replayed {
		h.Set(replayedHeader, "true")
	}
	if a.Status == http.StatusServiceUnavailable || a.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a client that left gets nothing, and nobody is left to tell
}

// Refusal is an error that is the client's to read.
type Refusal struct { //nolint:errname // it is an answer first
	Status int
	// Code is for programs, Text for people: what is wrong and what to do.
	Code, Text string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Text }

// Body is the refusal as it is answered.
func (r *Refusal) Body() []byte {
	body, _ := json.Marshal(struct { // two strings: it can not fail
		Error string `json:"error"`
		Code  string `json:"code"`
	}{r.Text, r.Code})
	return body
}

func (r *Refusal) answer() Answer { return Answer{Status: r.Status, Body: r.Body()} }

// away is the refusal of a request that may succeed when it is sent again.
func away() *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: codeUnavailable,
		Text: "the service can not do this at the moment: send the request again with the same idempotency key"}
}

// Unavailable is a 503 for a cause that the log gets and the client does not.
func Unavailable(cause error) error { return &wrapped{away(), cause} }

// wrapped is a refusal with the cause that the log gets.
type wrapped struct {
	refusal *Refusal
	cause   error
}

func (w *wrapped) Error() string   { return w.refusal.Code + ": " + w.cause.Error() }
func (w *wrapped) Unwrap() []error { return []error{w.refusal, w.cause} }

// refusalOf is what the client is told of an error.
func refusalOf(err error) *Refusal {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r
	case Away(err):
		return away()
	}
	return &Refusal{Status: http.StatusInternalServerError, Code: codeInternal, Text: internalText}
}

// Decode reads a JSON object from a request's body into T. Fields that T lacks
// are refused: a mistyped one would be ignored in silence.
func Decode[T any](r *http.Request) (T, error) {
	var v T
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err == nil {
		return v, nil
	}
	refusal := &Refusal{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Text: "the body is no valid JSON: " + err.Error()}
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		refusal.Text = "the body is empty: send a JSON object"
	case errors.As(err, &large):
		refusal.Status, refusal.Code, refusal.Text = http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the body is larger than %d bytes", large.Limit)
	case errors.As(err, &kind) && kind.Field != "":
		refusal.Text = fmt.Sprintf("the field %q is a %s: it must be a %s", kind.Field, kind.Value, jsonName(kind.Type.Kind().String()))
	}
	return v, refusal
}

func jsonName(kind string) string {
	if kind == "int64" {
		return "whole number"
	}
	return kind
}

// PathID is the id in a request's path.
func PathID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, &Refusal{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Text: "the id in the path must be a whole number from 1"}
	}
	return id, nil
}

// QueryInt is a whole number among a request's parameters, or the fallback where it is not given.
func QueryInt(r *http.Request, name string, fallback, least, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, &Refusal{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Text: fmt.Sprintf("the parameter %s must be a whole number from %d to %d", name, least, most)}
	}
	return n, nil
}
