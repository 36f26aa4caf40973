package sizing

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed data/classes.txt
var classData []byte

// Class is a class of database servers, cache nodes or machines.
type Class struct {
	// Name is as db.m7g.large, cache.t4g.small or m7g.large.
	Name string `json:"name"`
	VCPU int    `json:"vcpu"`
	// Memory is what a server of it has; of a cache's node, what it has for data.
	Memory Bytes `json:"memory"`
	// Burst says that it works at full speed for a while only.
	Burst bool `json:"burst,omitempty"`
	// ARM says that its processors are Graviton.
	ARM bool `json:"arm,omitempty"`
	// rank is the order among classes of one size, as the file has them.
	rank int
}

// memoryWeight is how many GiB of memory cost what a core costs, as prices within a
// generation are: a class of 2 cores and 16 GiB costs four thirds of one with 8.
const memoryWeight = 8

// weight stands for a class' price, in cores: prices of single regions are not known here.
func (c Class) weight() float64 { return float64(c.VCPU) + float64(c.Memory)/float64(GiB)/memoryWeight }

// Source is where the classes are from.
type Source struct {
	Title string `json:"title"`
	URL   string `json:"url"`
	// Date is as 2006-01-02.
	Date string `json:"date"`
}

// Classes are all classes that are known, the smallest first, and where they are from:
// prefix is "db.", "cache.", or "" for machines. An error is a fault of the binary.
func Classes(prefix string) ([]Class, []Source, error) {
	all, sources, err := readClasses(classData)
	if err != nil {
		return nil, nil, fmt.Errorf("read the classes: %w", err)
	}
	return slices.DeleteFunc(all, func(c Class) bool { return prefixOf(c.Name) != prefix }), sources, nil
}

// readClasses reads lines of words: "source DATE URL TITLE...", and for each family "ec2",
// "db" or "cache", its name, arm or x86, steady or burst, and its sizes as NAME:VCPU:GIB.
func readClasses(text []byte) ([]Class, []Source, error) {
	var (
		all     []Class
		sources []Source
		at      int
		seen    = map[string]bool{}
	)
	for line := range bytes.Lines(text) {
		at++
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] == "source" && len(words) >= 4 {
			if _, err := time.Parse(time.DateOnly, words[1]); err != nil {
				return nil, nil, fmt.Errorf("line %d: %q is no date", at, words[1])
			}
			sources = append(sources, Source{Date: words[1], URL: words[2], Title: strings.Join(words[3:], " ")})
			continue
		}
		prefix, known := map[string]string{"ec2": "", "db": "db.", "cache": "cache."}[words[0]]
		if !known || len(words) < 5 || words[2] != "arm" && words[2] != "x86" || words[3] != "steady" && words[3] != "burst" {
			return nil, nil, fmt.Errorf("line %d: want ec2, db or cache, a family, arm or x86, steady or burst, and sizes", at)
		}
		for _, w := range words[4:] {
			c := Class{Burst: words[3] == "burst", ARM: words[2] == "arm", rank: at}
			name, rest, _ := strings.Cut(w, ":")
			cpus, gib, _ := strings.Cut(rest, ":")
			var memory float64
			var err, err2 error
			c.VCPU, err = strconv.Atoi(cpus)
			memory, err2 = strconv.ParseFloat(gib, 64)
			c.Name = prefix + words[1] + "." + name
			if err != nil || err2 != nil || name == "" || c.VCPU < 1 || c.VCPU > 1024 || !(memory > 0 && memory < 65536) {
				return nil, nil, fmt.Errorf("line %d: %q is no size: want NAME:VCPU:GIB, for example large:2:8", at, w)
			}
			if seen[c.Name] {
				return nil, nil, fmt.Errorf("line %d: %s stands here twice", at, c.Name)
			}
			seen[c.Name] = true
			c.Memory = Bytes(memory * float64(GiB))
			all = append(all, c)
		}
	}
	if len(all) == 0 || len(sources) == 0 {
		return nil, nil, errors.New("there are no classes in it, or no source")
	}
	slices.SortFunc(all, func(a, b Class) int {
		return cmp.Or(cmp.Compare(a.Memory, b.Memory), cmp.Compare(a.VCPU, b.VCPU), cmp.Compare(a.rank, b.rank), strings.Compare(a.Name, b.Name))
	})
	return all, sources, nil
}

func prefixOf(class string) string {
	for _, p := range []string{"db.", "cache."} {
		if strings.HasPrefix(class, p) {
			return p
		}
	}
	return ""
}

// offers are the classes that are offered, the smallest first.
func offers(prefix string, offered Offered) ([]Class, error) {
	all, _, err := Classes(prefix)
	if err != nil {
		return nil, err
	}
	if offered != nil {
		all = slices.DeleteFunc(all, func(c Class) bool { return !offered(c.Name) })
	}
	if len(all) == 0 {
		return nil, errors.New("the region offers none of the classes that are known: choose another region, or name a class")
	}
	return all, nil
}
