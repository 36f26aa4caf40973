package gate

import (
	"encoding/json"
	"net/http"
	"strconv"
)

const (
	// statusClientGone stands in the figures for an answer that nobody waited for;
	// it is sent to nobody.
	statusClientGone = 499
	// retryAfter is what a refused client is told, in seconds: a cutover is over by then.
	retryAfter = "1"
)

// problem is the body of every answer that is the gate's own.
type problem struct {
	Code  string `json:"code"`
	Error string `json:"error"`
}

// respond answers in place of the application. It does not wait for the rest of
// the request's body, which may be long in coming; the connection ends with it then.
func respond(w http.ResponseWriter, r *http.Request, status int, code, text string) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Connection", "close")
	}
	body, err := json.Marshal(problem{code, text})
	if err != nil { // two strings always go
		status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// abort ends the connection (in HTTP/2 the stream) without an answer, where an
// answer would claim to know what happened. The server takes it for what it is.
func abort() { panic(http.ErrAbortHandler) }
