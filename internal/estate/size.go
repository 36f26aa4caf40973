package estate

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// sizeUnits are the units of a size, the largest of each kind first, so that
// String finds the largest that divides it.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

const binaryUnits = 4 // of the units above

var sizeForm = regexp.MustCompile(`^([0-9]+) ?([A-Za-z]*)$`)

// ParseSize reads a size: a whole number of bytes, or of a unit (KiB, MiB, GiB,
// TiB, KB, MB, GB, TB).
func ParseSize(text string) (Size, error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("is not a size: want a whole number and a unit, for example 64MiB")
	}
	unit := int64(1)
	if m[2] != "" {
		var names []string
		unit = 0
		for _, u := range sizeUnits {
			names = append(names, u.name)
			if u.name == m[2] {
				unit = u.bytes
			}
		}
		if unit == 0 {
			return 0, fmt.Errorf("has no known unit: %s", unknownUnit(m[1], m[2], names))
		}
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("is too large a size")
	}
	return Size(n * unit), nil
}

func unknownUnit(number, unit string, names []string) string {
	want := "want " + alternatives(names)
	for _, n := range names {
		if strings.EqualFold(n, unit) || strings.EqualFold(n[:1], unit) || strings.EqualFold(n[:1]+"i", unit) {
			return fmt.Sprintf("did you mean %s%s? (%s)", number, n, want)
		}
	}
	return want
}

// String is the size in the largest binary unit that divides it: "64MiB".
func (s Size) String() string {
	for _, u := range sizeUnits[:binaryUnits] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalYAML writes the size as Load reads it.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }
