package inventory

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// lineAt is the line of a field. Paths are kept as hashes, which takes a tenth of the
// text: inventories have a hundred thousand objects, and few fields are ever asked for.
// Of a few hundred fields of one object, two have the same 64 bits once in 10^14 times.
type lineAt struct {
	hash uint64
	line int32
}

// Of 64-bit FNV-1a.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

// hashKey and hashIndex extend a path's hash by a field or by a position in a list.
func hashKey(h uint64, key string) uint64 {
	h = (h ^ 0x01) * hashPrime
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * hashPrime
	}
	return h
}

func hashIndex(h uint64, n int) uint64 {
	h = (h ^ 0x02) * hashPrime
	for ; n > 0xff; n >>= 8 {
		h = (h ^ uint64(n&0xff)) * hashPrime
	}
	return (h ^ uint64(n)) * hashPrime
}

// LineOf is the line of a field such as spec.template.spec.containers[0].image or
// data["nginx.conf"], and that of the nearest field around it if it is not there. It is
// 0 if the object is not of a file or its lines are not known.
func (s Source) LineOf(path string) int {
	if len(s.lines) == 0 {
		return s.Line
	}
	steps := splitPath(path)
	hashes := make([]uint64, 0, len(steps))
	h := uint64(hashStart)
	for _, step := range steps {
		if step.list {
			h = hashIndex(h, step.index)
		} else {
			h = hashKey(h, step.key)
		}
		hashes = append(hashes, h)
	}
	for _, h := range slices.Backward(hashes) {
		if at, ok := slices.BinarySearchFunc(s.lines, h, func(l lineAt, h uint64) int { return cmp.Compare(l.hash, h) }); ok {
			return int(s.lines[at].line)
		}
	}
	return s.Line
}

// At is FILE:LINE of a field, or the cluster's context where there is no file.
func (s Source) At(path string) string {
	if s.File == "" {
		return s.Context
	}
	if n := s.LineOf(path); n > 0 {
		return s.File + ":" + strconv.Itoa(n)
	}
	return s.File
}

// mostSteps is how many parts a path has, as a rule: more cost another piece of memory.
const mostSteps = 8

// step is one part of a path: a field, or a position in a list.
type step struct {
	key   string
	list  bool
	index int
}

// splitPath reads a path; what is not well formed is taken as a key, as it stands.
func splitPath(path string) []step {
	steps := make([]step, 0, mostSteps)
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			end := strings.IndexByte(path, ']')
			if strings.HasPrefix(path, `["`) {
				if end = strings.Index(path, `"]`); end > 0 {
					end++
				}
			}
			if end < 0 {
				return append(steps, step{key: path})
			}
			inner := path[1:end]
			path = path[end+1:]
			if n, err := strconv.Atoi(inner); err == nil && n >= 0 {
				steps = append(steps, step{list: true, index: n})
			} else if key, err := strconv.Unquote(inner); err == nil {
				steps = append(steps, step{key: key})
			} else {
				steps = append(steps, step{key: inner})
			}
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			steps = append(steps, step{key: path[:end]})
			path = path[end:]
		}
	}
	return steps
}

// KeyPath is the path of a key below a field: data.LOG_LEVEL, but data["nginx.conf"].
func KeyPath(field, key string) string {
	if key == "" || strings.ContainsAny(key, `.[]"`) {
		return field + "[" + strconv.Quote(key) + "]"
	}
	return field + "." + key
}

func sortLines(lines []lineAt) []lineAt {
	slices.SortFunc(lines, func(a, b lineAt) int { return cmp.Compare(a.hash, b.hash) })
	return slices.Clip(lines)
}
