package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dhow/internal/durable"
	"dhow/internal/estate"
)

// sidesVersion is the form of the file of the served sides.
const sidesVersion = 1

// maxSidesFile bounds the file of the served sides, in bytes: a thousand routes need less.
const maxSidesFile = 1 << 20

// sides is what the gate must know after it died: which side each route is served
// by. It stands on the disk before the gate acts on it.
type sides struct {
	path string
	lock *os.File
	now  savedSides
}

// savedSides is the file.
type savedSides struct {
	Version int `json:"version"`
	// Side serves every route that Routes does not name.
	Side Side `json:"side"`
	// Routes are those that were switched alone since all were switched.
	Routes  map[string]Side `json:"routes,omitempty"`
	Changed time.Time       `json:"changed"`
}

// openSides reads the file, if there is one, and locks it for this process: the
// lock goes with its holder, however it dies. Without a file the source is served.
func openSides(path string) (*sides, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the gate's state: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the gate's state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another gate runs with the state %s: stop it first, or look at it with `dhow status`", path)
		}
		return nil, fmt.Errorf("lock the gate's state %s: %w", path, err)
	}
	s := &sides{path: path, lock: lock, now: savedSides{Version: sidesVersion, Side: estate.Source}}
	if err := s.read(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sides) read() error {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the gate's state: %w", err)
	case info.Size() > maxSidesFile:
		return s.damaged(fmt.Errorf("it has %d bytes", info.Size()))
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("read the gate's state: %w", err)
	}
	saved, err := parseSides(text)
	if err != nil {
		return s.damaged(err)
	}
	s.now = saved
	return nil
}

// damaged is the error of a file that does not say which side is served. Nothing
// is assumed then: the wrong side's answers would be wrong, and its writes lost.
func (s *sides) damaged(err error) error {
	return fmt.Errorf("the gate's state %s can not be understood, so it is not known which side serves: see where the databases take writes with `dhow status`, then write %s into the file: %w",
		s.path, `{"version":1,"side":"source"} (or "target")`, err)
}

// parseSides reads the file's text.
func parseSides(text []byte) (savedSides, error) {
	var saved savedSides
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&saved); err != nil {
		return savedSides{}, err
	}
	if d.More() {
		return savedSides{}, errors.New("more follows the first value")
	}
	if saved.Version != sidesVersion {
		return savedSides{}, fmt.Errorf("its version is %d and this gate knows %d", saved.Version, sidesVersion)
	}
	if !valid(saved.Side) {
		return savedSides{}, fmt.Errorf("the side is %q", saved.Side)
	}
	for route, side := range saved.Routes {
		if !valid(side) {
			return savedSides{}, fmt.Errorf("the side of route %q is %q", route, side)
		}
	}
	return saved, nil
}

func valid(s Side) bool { return s == estate.Source || s == estate.Target }

// of is the side that serves a route.
func (s *sides) of(route string) Side {
	if side, ok := s.now.Routes[route]; ok {
		return side
	}
	return s.now.Side
}

// set makes it durable that a side serves a route, or all of them when route is
// empty. On an error the file says what it said before.
func (s *sides) set(route string, to Side) error {
	next := savedSides{Version: sidesVersion, Side: to, Changed: time.Now().UTC()}
	if route != "" {
		next.Side = s.now.Side
		next.Routes = map[string]Side{}
		for name, side := range s.now.Routes {
			next.Routes[name] = side
		}
		next.Routes[route] = to
	}
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the gate's state: %w", err)
	}
	if err := durable.Replace(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("make the switch durable, nothing was switched: %w", err)
	}
	s.now = next
	return nil
}

func (s *sides) close() { _ = s.lock.Close() }
