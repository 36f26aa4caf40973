// Package look is what the pages of the customers' front end and of the public
// website have in common: the stylesheet and the sail, how such files are served,
// the languages with their words, money and dates, and the headers that keep
// pages safe. It knows no page.
package look

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed style.css sail.svg
var shared embed.FS

const (
	// versionLength is how many hexadecimal digits of a file's hash name its version.
	versionLength = 16
	// forever is for what never changes under its address.
	forever = "public, max-age=31536000, immutable"
	// AMoment is for what may change under its address: it is asked for again, and
	// mostly answered with 304.
	AMoment = "public, max-age=300, must-revalidate"
)

// File is one that is served as it is.
type File struct {
	kind, version string
	plain, packed []byte
}

// NewFile makes a file of what it holds; its name tells its type.
func NewFile(name string, body []byte) (*File, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(body)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", name, err)
	}
	sum := sha256.Sum256(body)
	return &File{kind: mime.TypeByExtension(path.Ext(name)), version: hex.EncodeToString(sum[:])[:versionLength], plain: body, packed: packed.Bytes()}, nil
}

// Serve answers with the file, or with 304 where the client has it.
func (f *File) Serve(w http.ResponseWriter, r *http.Request, status int, cache string) {
	h, body, tag := w.Header(), f.plain, `"`+f.version+`"`
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", cache)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(f.packed) < len(f.plain) {
		h.Set("Content-Encoding", "gzip")
		body, tag = f.packed, `"`+f.version+`-gzip"`
	}
	if status == http.StatusOK {
		h.Set("ETag", tag)
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left gets nothing
	}
}

// Files are those below one address. Their addresses hold their versions, so that
// browsers keep them for good.
type Files struct {
	below string
	files map[string]*File
}

// NewFiles reads the shared files and those of the folders, which are served below an address.
func NewFiles(below string, folders ...fs.FS) (*Files, error) {
	f := &Files{below: below, files: map[string]*File{}}
	for _, folder := range append(folders, shared) {
		names, err := fs.Glob(folder, "*")
		if err != nil {
			return nil, fmt.Errorf("list the files: %w", err)
		}
		for _, name := range names {
			body, err := fs.ReadFile(folder, name)
			if err != nil {
				return nil, fmt.Errorf("read a file: %w", err)
			}
			if f.files[name], err = NewFile(name, body); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// Address is where a file is served; an error says that there is none.
func (f *Files) Address(name string) (string, error) {
	file := f.files[name]
	if file == nil {
		return "", fmt.Errorf("there is no file %q", name)
	}
	return f.below + name + "?v=" + file.version, nil
}

func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := f.files[strings.TrimPrefix(r.URL.Path, f.below)]
	if file == nil {
		http.NotFound(w, r)
		return
	}
	cache := AMoment
	if r.URL.Query().Get("v") == file.version {
		cache = forever
	}
	file.Serve(w, r, http.StatusOK, cache)
}

// policy allows a page its own files and forms, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Guard puts the headers that keep pages safe onto every answer.
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
		if Secure(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// Secure says whether the client's connection is encrypted, here or at the proxy before.
func Secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}
