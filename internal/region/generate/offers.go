package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// writeOffers writes what the regions offer, as package region reads it. Each region's
// types are those of the newest release that lists them; where that list is the same
// as in the oldest, nothing was learnt of it since, and it says so. A region that no
// release lists is an error, and so is one that only a release knows.
func writeOffers(places []place, releases []*release) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# What each region offers. Made by `go generate ./internal/region`: do not change it here.\n" +
		"# Behind a type or a family of instances stand the regions that lack it (-), or those\n" +
		"# that alone have it (+); nothing means that all have it.\n")
	known := map[string]bool{}
	for _, p := range places {
		known[p.Name] = true
	}
	oldest := releases[len(releases)-1]
	for _, r := range slices.Backward(releases) {
		fmt.Fprintf(&b, "source cfn-lint-%s %s https://pypi.org/project/cfn-lint/%s/ AWS's resource schemas as cfn-lint %s has them\n", r.version, r.date, r.version, r.version)
		for _, name := range slices.Sorted(maps.Keys(r.types)) {
			if !known[name] && !slices.ContainsFunc(otherPartitions, func(p string) bool { return strings.HasPrefix(name, p) }) {
				return nil, fmt.Errorf("cfn-lint %s lists the region %s, which regions.yaml does not: write there what is known of it", r.version, name)
			}
		}
	}
	types, codes := map[string][]string{}, map[string]string{}
	for _, p := range places {
		codes[p.Name] = p.code()
		at := slices.IndexFunc(releases, func(r *release) bool { return len(r.types[p.Name]) > 0 })
		if at < 0 {
			return nil, fmt.Errorf("no release of cfn-lint that is locked lists the types of %s: lock an older one that does", p.Name)
		}
		from := releases[at]
		fmt.Fprintf(&b, "region %s %s cfn-lint-%s", p.code(), p.Name, from.version)
		if from != oldest && slices.Equal(from.types[p.Name], oldest.types[p.Name]) {
			fmt.Fprintf(&b, " since %s", oldest.date)
		}
		b.WriteString("\n")
		for _, t := range from.types[p.Name] {
			types[t] = append(types[t], p.Name)
		}
	}
	b.WriteString("types\n")
	for _, t := range slices.Sorted(maps.Keys(types)) {
		b.WriteString(t + regionsOf(types[t], places, codes) + "\n")
	}
	newest := releases[0]
	for _, service := range slices.Sorted(maps.Keys(newest.instances)) {
		fmt.Fprintf(&b, "instances %s\n", service)
		if err := writeFamilies(&b, newest.instances[service], places, codes); err != nil {
			return nil, fmt.Errorf("the instances of %s: %w", service, err)
		}
	}
	return b.Bytes(), nil
}

// writeFamilies writes classes by families: a line for the sizes of a family that the
// same regions have.
func writeFamilies(b *bytes.Buffer, byRegion map[string][]string, places []place, codes map[string]string) error {
	in := map[string][]string{}
	for _, p := range places {
		for _, class := range byRegion[p.Name] {
			in[class] = append(in[class], p.Name)
		}
	}
	type line struct{ family, regions string }
	sizes := map[line][]string{}
	for _, class := range slices.Sorted(maps.Keys(in)) {
		dot := strings.LastIndexByte(class, '.')
		if dot < 1 || dot == len(class)-1 || strings.ContainsAny(class, " ,\t\n") {
			return fmt.Errorf("%q is no class: want one like m7g.large", class)
		}
		l := line{class[:dot], regionsOf(in[class], places, codes)}
		sizes[l] = append(sizes[l], class[dot+1:])
	}
	var lines []string
	for l, s := range sizes {
		lines = append(lines, l.family+" "+strings.Join(s, ",")+l.regions+"\n")
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	return nil
}

// regionsOf are the regions that lack a thing or alone have it, whichever are fewer,
// with a space in front of each.
func regionsOf(have []string, places []place, codes map[string]string) string {
	var with, without strings.Builder
	for _, p := range places {
		if slices.Contains(have, p.Name) {
			with.WriteString(" +" + codes[p.Name])
		} else {
			without.WriteString(" -" + codes[p.Name])
		}
	}
	if len(have) < len(places)-len(have) {
		return with.String()
	}
	return without.String()
}
