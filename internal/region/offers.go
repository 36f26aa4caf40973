package region

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// maxRegions is how many regions a set can hold.
const maxRegions = 64

// set is a set of regions, a bit each.
type set uint64

func (s set) has(bit set) bool { return s&bit != 0 }

// offered is what stands of a region in front of what all offer.
type offered struct {
	bit   set
	offer Offer
}

// offers is which region offers what.
type offers struct {
	regions map[string]offered
	// types are the regions of each type; names are the types, sorted.
	types map[string]set
	names []string
	// instances are the regions of each class, by service.
	instances map[string]map[string]set
	// classes are the classes of each service, sorted.
	classes map[string][]string

	sources map[string]Source
	codes   map[string]set
	all     set
}

// parseOffers reads the generator's text: lines of words. The first word says what
// the line is, up to the line "types", behind which each line is a type, and lines
// "instances SERVICE", behind which each line is a family with its sizes. Behind a
// type or a family stand the regions that lack it, each with a minus, or those that
// alone have it, each with a plus; nothing means that all have it.
func parseOffers(text []byte) (*offers, error) {
	o := &offers{regions: map[string]offered{}, types: map[string]set{}, instances: map[string]map[string]set{}, classes: map[string][]string{},
		sources: map[string]Source{}, codes: map[string]set{}}
	read := o.readHead
	at := 0
	for line := range bytes.Lines(text) {
		at++
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var err error
		switch {
		case len(words) == 1 && words[0] == "types":
			read = o.readType
		case len(words) == 2 && words[0] == "instances":
			if o.instances[words[1]] != nil {
				err = fmt.Errorf("the instances of %s stand here twice", words[1])
				break
			}
			classes := map[string]set{}
			o.instances[words[1]] = classes
			read = func(words []string) error { return o.readFamily(classes, words) }
		default:
			err = read(words)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
	}
	if len(o.regions) == 0 || len(o.types) == 0 {
		return nil, errors.New("there are no regions in it, or no types")
	}
	if !slices.IsSorted(o.names) {
		return nil, errors.New("its types are not sorted")
	}
	for service, classes := range o.instances {
		o.classes[service] = slices.Sorted(maps.Keys(classes))
	}
	return o, nil
}

// readHead reads a line in front of the types: "source NAME DATE URL TITLE..." or
// "region CODE NAME SOURCE [since DATE]".
func (o *offers) readHead(words []string) error {
	switch {
	case words[0] == "source" && len(words) >= 5:
		if !isDate(words[2]) {
			return fmt.Errorf("%q is no date", words[2])
		}
		o.sources[words[1]] = Source{Title: strings.Join(words[4:], " "), URL: words[3], Date: words[2]}
		return nil
	case words[0] == "region" && (len(words) == 4 || len(words) == 6 && words[4] == "since" && isDate(words[5])):
		code, name := words[1], words[2]
		source, ok := o.sources[words[3]]
		if !ok {
			return fmt.Errorf("the source %q of %s is not told", words[3], name)
		}
		if _, twice := o.regions[name]; twice || o.codes[code] != 0 {
			return fmt.Errorf("%s or its code %s stands here twice", name, code)
		}
		if len(o.regions) == maxRegions {
			return fmt.Errorf("there are more than %d regions", maxRegions)
		}
		r := offered{bit: 1 << len(o.regions), offer: Offer{Source: source}}
		if len(words) == 6 {
			r.offer.Since = words[5]
		}
		o.regions[name], o.codes[code] = r, r.bit
		o.all |= r.bit
		return nil
	}
	return fmt.Errorf("%q is not understood here", strings.Join(words, " "))
}

func (o *offers) readType(words []string) error {
	if _, twice := o.types[words[0]]; twice {
		return fmt.Errorf("%s stands here twice", words[0])
	}
	if strings.Count(words[0], "::") < 2 {
		return fmt.Errorf("%q is no type: want one like AWS::Service::Name", words[0])
	}
	in, err := o.readRegions(words[1:])
	if err != nil {
		return err
	}
	o.types[words[0]] = in
	o.names = append(o.names, words[0])
	return nil
}

// readFamily reads "FAMILY SIZE,SIZE [regions]": m7g large,xlarge -afs1.
func (o *offers) readFamily(classes map[string]set, words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("the family %s has no sizes", words[0])
	}
	in, err := o.readRegions(words[2:])
	if err != nil {
		return err
	}
	for size := range strings.SplitSeq(words[1], ",") {
		class := words[0] + "." + size
		if _, twice := classes[class]; twice || size == "" {
			return fmt.Errorf("%s stands here twice, or has no size", class)
		}
		classes[class] = in
	}
	return nil
}

// readRegions reads those that lack a thing, or those that alone have it.
func (o *offers) readRegions(words []string) (set, error) {
	var named set
	sign := byte('-')
	for i, w := range words {
		bit := o.codes[w[1:]]
		if i == 0 {
			sign = w[0]
		}
		if bit == 0 || w[0] != sign || sign != '-' && sign != '+' {
			return 0, fmt.Errorf("%q is no region here: want codes with a - or codes with a +", w)
		}
		named |= bit
	}
	if bits.OnesCount64(uint64(named)) != len(words) {
		return 0, fmt.Errorf("a region stands twice in %q", strings.Join(words, " "))
	}
	if sign == '-' {
		return o.all &^ named, nil
	}
	return named, nil
}

func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}
