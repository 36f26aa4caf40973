package window

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Kind is what a history is read from.
type Kind string

// The kinds.
const (
	Prometheus Kind = "prometheus"
	ALB        Kind = "alb"
	Nginx      Kind = "nginx"
	CSV        Kind = "csv"
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Prometheus, ALB, Nginx, CSV} }

const (
	// maxLine bounds a line of a log, in bytes; longer ones can not be read. The
	// longest that a load balancer writes are near 20 KiB.
	maxLine = 64 << 10
	// firstLines is how many lines of a file are looked at to find out what it is.
	firstLines = 20
	// lookEvery is how many lines are read between two looks at whether to go on.
	lookEvery = 4096
	// mostUnreadable is the share of lines that may be unreadable before the kind is taken for wrong.
	mostUnreadable = 0.1
	// named is how many files that are passed over are named.
	named = 3
)

// Source is where a history is.
type Source struct {
	// Where is the URL of a Prometheus server, a file or a folder of files.
	Where string
	// Kind is what it is; empty means that it is found out.
	Kind Kind
	// Query is asked of Prometheus: it gives requests a second. Empty means DefaultQuery.
	Query string
	// Token is sent to Prometheus as a bearer token; empty means none.
	Token string
	// Zone is whose clock the habits follow, and that of times without an offset.
	Zone *time.Location
	// Now is the time.
	Now time.Time
}

// Read reads a history.
func Read(ctx context.Context, s Source) (*History, error) {
	h := newHistory(s.Zone, s.Now)
	isURL := strings.HasPrefix(s.Where, "http://") || strings.HasPrefix(s.Where, "https://")
	switch {
	case s.Kind != "" && !slices.Contains(Kinds(), s.Kind):
		return nil, fmt.Errorf("a request history of kind %q is not known: want one of %v", s.Kind, Kinds())
	case isURL && s.Kind != "" && s.Kind != Prometheus:
		return nil, fmt.Errorf("a request history of kind %s is read from files, and %s is a URL", s.Kind, s.Where)
	case isURL:
		return h, h.readPrometheus(ctx, s)
	case s.Kind == Prometheus:
		return nil, fmt.Errorf("a Prometheus server is named by its URL, and %q is none", s.Where)
	}
	return h, h.readFiles(ctx, s)
}

// readFiles reads a file, or all files of a folder and of those in it.
func (h *History) readFiles(ctx context.Context, s Source) error {
	var files []string
	err := filepath.WalkDir(s.Where, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			files = append(files, path)
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read the request history: %w", err)
	}
	alone := len(files) == 1 && files[0] == s.Where
	kinds := map[Kind]string{} // with a file of each
	var passed []string
	for _, path := range files {
		kind, err := h.readFile(ctx, path, s.Kind)
		switch {
		case errors.Is(err, errUnknownKind) && !alone:
			passed = append(passed, filepath.Base(path))
			continue
		case err != nil:
			return err
		case kind == "": // an empty file
			continue
		}
		kinds[kind] = path
	}
	if len(kinds) > 1 {
		return fmt.Errorf("%s holds request histories of several kinds, and requests would be counted twice: name one of %s", s.Where, sentence(kinds))
	}
	if len(kinds) == 0 {
		return &Refused{Reason: "the request history " + s.Where + " holds no access log and no CSV that can be read", Fix: "name the folder of an ALB's or of nginx's access logs, or a CSV file with the columns time and requests"}
	}
	if n := len(passed); n > 0 {
		h.said = append(h.said, fmt.Sprintf("%d files are no request history and were passed over: %s%s", n, strings.Join(passed[:min(n, named)], ", "), more(n-named)))
	}
	return nil
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func sentence(kinds map[Kind]string) string {
	var all []string
	for k, file := range kinds {
		all = append(all, fmt.Sprintf("%s (%s)", k, filepath.Base(file)))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// errUnknownKind says that a file is nothing that can be read.
var errUnknownKind = errors.New("the file is no access log of an ALB or of nginx, and no CSV with the columns time and requests")

// readFile reads one file, compressed or not, of a given kind or of the one that it is.
func (h *History) readFile(ctx context.Context, path string, kind Kind) (Kind, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the request history: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	found, err := h.readStream(ctx, f, kind)
	if err != nil {
		return found, fmt.Errorf("read the request history %s: %w", path, err)
	}
	return found, nil
}

// readStream reads what a file holds.
func (h *History) readStream(ctx context.Context, from io.Reader, kind Kind) (Kind, error) {
	in := bufio.NewReaderSize(from, maxLine)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return kind, fmt.Errorf("decompress it: %w", err)
		}
		defer func() { _ = z.Close() }() // its error has come with the last read
		in = bufio.NewReaderSize(z, maxLine)
	}
	head, err := in.Peek(maxLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return kind, fmt.Errorf("decompress it: %w", err)
	}
	if len(bytes.TrimSpace(head)) == 0 {
		return "", nil
	}
	if kind == "" {
		if kind = h.kindOf(head); kind == "" {
			return "", errUnknownKind
		}
	}
	l := &lines{in: in}
	switch kind {
	case CSV:
		err = h.readCSV(ctx, l)
	case ALB:
		err = h.readLog(ctx, l, parseALB)
	case Nginx:
		err = h.readLog(ctx, l, parseNginx)
	case Prometheus: // Read has refused it
		err = errUnknownKind
	}
	if err == nil && float64(l.unreadable) > mostUnreadable*float64(l.read) {
		err = fmt.Errorf("%d of its %d lines can not be read as %s", l.unreadable, l.read, kind)
	}
	h.unreadable += l.unreadable
	return kind, err
}

// kindOf finds out what a file is by its first lines: most of them agree.
func (h *History) kindOf(head []byte) Kind {
	votes := map[Kind]int{}
	n := 0
	for line := range bytes.Lines(head) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if n++; n > firstLines {
			break
		}
		if _, err := parseALB(line); err == nil {
			votes[ALB]++
		}
		if _, err := parseNginx(line); err == nil {
			votes[Nginx]++
		}
		if fields, err := splitCSV(string(line)); err == nil {
			if _, isHead := namedColumns(fields); isHead && n == 1 {
				return CSV
			}
			if _, err := parseRow(fields, firstColumns(fields), h.zone); err == nil {
				votes[CSV]++
			}
		}
	}
	n = min(n, firstLines)
	for _, k := range []Kind{ALB, Nginx, CSV} {
		if 2*votes[k] > n {
			return k
		}
	}
	return ""
}

// lines reads lines of bounded length.
type lines struct {
	in               *bufio.Reader
	read, unreadable int64
}

// next is the next line that is not empty, io.EOF at the end. One that is too
// long is passed over as unreadable.
func (l *lines) next(ctx context.Context) ([]byte, error) {
	for {
		if l.read%lookEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		line, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = l.in.ReadSlice('\n')
			}
			l.read++
			l.unreadable++
			line = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("after %d lines: %w", l.read, err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			l.read++
			return line, nil
		}
		if err != nil {
			return nil, io.EOF
		}
	}
}

// readLog counts the requests of an access log.
func (h *History) readLog(ctx context.Context, l *lines, parse func([]byte) (time.Time, error)) error {
	h.silent = true
	for {
		line, err := l.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at, err := parse(line)
		if err != nil || !h.add(at, 1, 0, 0) {
			l.unreadable++
		}
	}
}

// splitCSV reads the fields of a line; fields do not go over several lines here.
func splitCSV(line string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(line))
	r.FieldsPerRecord = -1
	return r.Read()
}
