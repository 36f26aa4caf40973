package double

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"dhow/internal/cfnlint"
	"dhow/internal/region"
)

const (
	// newestRelease and olderRelease are the releases of cfn-lint that are read. A region's
	// types are those of the newest that lists it: today's has no list of me-south-1.
	newestRelease = "requirements-cfn-lint.txt"
	olderRelease  = "requirements-cfn-lint-1.46.txt"
	// keptTypes is how many compiled schemas are kept; the largest take half a megabyte.
	keptTypes = 256
)

// Schemas are AWS's resource schemas as cfn-lint ships them: which types a region has,
// and what their properties are. A type is read when it is first asked for, and those
// that were not asked for lately are forgotten. One may serve many doubles at once.
type Schemas struct {
	releases []*release
	regions  []string // all that are known, sorted

	mu    sync.Mutex
	types map[string]*list.Element // by release and schema
	used  list.List                // of *resourceType, the latest first
}

// release is one of cfn-lint's, open.
type release struct {
	*cfnlint.Wheel
	lists map[string]map[string]string // by region, as far as they were asked for
}

// OpenSchemas opens the locked releases of cfn-lint, and fetches by pip what dhow's cache
// lacks, which may take minutes. Close closes them.
func OpenSchemas(ctx context.Context) (*Schemas, error) {
	catalog, err := region.Load()
	if err != nil {
		return nil, fmt.Errorf("open AWS's resource schemas: %w", err)
	}
	s := &Schemas{types: map[string]*list.Element{}}
	for _, r := range catalog.Regions() {
		s.regions = append(s.regions, r.Name)
	}
	slices.Sort(s.regions)
	for _, lock := range []string{newestRelease, olderRelease} {
		w, err := cfnlint.Fetch(ctx, lock, "cfn-lint")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open AWS's resource schemas: %w", err), s.Close())
		}
		s.releases = append(s.releases, &release{w, map[string]map[string]string{}})
	}
	return s, nil
}

// Close closes the releases.
func (s *Schemas) Close() error {
	var failed []error
	for _, r := range s.releases {
		failed = append(failed, r.Close())
	}
	s.releases = nil
	return errors.Join(failed...)
}

// find is the release and the name of a type's schema in a region; none where the region
// lacks it. Where only an older release lists the region, the type is nevertheless as the
// newest has it, in whatever region: AWS changes a type everywhere, within days.
func (s *Schemas) find(region, name string) (*release, string, error) {
	for i, r := range s.releases {
		types, err := r.types(region)
		if err != nil {
			return nil, "", err
		}
		if len(types) == 0 {
			continue
		}
		schema := types[name]
		if i == 0 || schema == "" {
			return r, schema, nil
		}
		for _, other := range s.regions {
			types, err := s.releases[0].types(other)
			if err != nil {
				return nil, "", err
			}
			if newer := types[name]; newer != "" {
				return s.releases[0], newer, nil
			}
		}
		return r, schema, nil
	}
	return nil, "", nil
}

// types are the names of the schemas of a region's types.
func (r *release) types(region string) (map[string]string, error) {
	types, known := r.lists[region]
	if !known {
		var err error
		if types, err = cfnlint.List(r, region); err != nil {
			return nil, fmt.Errorf("read the types of %s: %w", region, err)
		}
		r.lists[region] = types
	}
	return types, nil
}

// errNoType says that a region has no such type.
var errNoType = errors.New("no such type")

// typeOf is a type of a region, or errNoType.
func (s *Schemas) typeOf(region, name string) (*resourceType, error) {
	if isCustom(name) {
		return customResource(name), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, schema, err := s.find(region, name)
	if err != nil {
		return nil, err
	}
	if schema == "" {
		return nil, errNoType
	}
	key := r.Version + "/" + schema
	if e := s.types[key]; e != nil {
		s.used.MoveToFront(e)
		return e.Value.(*resourceType), nil
	}
	text, err := cfnlint.Schema(r, schema)
	if err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", name, err)
	}
	t, err := compileType(name, text)
	if err != nil {
		return nil, fmt.Errorf("the schema of %s in cfn-lint %s: %w", name, r.Version, err)
	}
	t.key = key
	s.types[key] = s.used.PushFront(t)
	if s.used.Len() > keptTypes {
		last := s.used.Back()
		delete(s.types, s.used.Remove(last).(*resourceType).key)
	}
	return t, nil
}

// isCustom says whether a type is one whose properties are its own.
func isCustom(name string) bool {
	return strings.HasPrefix(name, "Custom::") || name == "AWS::CloudFormation::CustomResource"
}
