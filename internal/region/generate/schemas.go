package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"dhow/internal/cfnlint"
	"github.com/goccy/go-yaml"
)

// firstRegion has every type before all others. Releases give its list to regions that
// tell none of their own.
const firstRegion = "us-east-1"

// otherPartitions are the beginnings of regions that an ordinary account does not reach.
var otherPartitions = []string{"cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"}

// place is what the generator must know of a region.
type place struct {
	Name  string   `yaml:"name"`
	Zones []string `yaml:"zones"`
}

// code is a region's short name, as its zones' ids have it.
func (p place) code() string {
	code, _, _ := strings.Cut(p.Zones[0], "-")
	return code
}

func readPlaces(file string) ([]place, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the regions: %w", err)
	}
	var f struct {
		Regions []place `yaml:"regions"`
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("read the regions of %s: %w", file, err)
	}
	codes := map[string]bool{}
	for _, p := range f.Regions {
		if len(p.Zones) == 0 || codes[p.code()] {
			return nil, fmt.Errorf("%s: the region %q has no zones, or the code of another", file, p.Name)
		}
		codes[p.code()] = true
	}
	slices.SortFunc(f.Regions, func(a, b place) int { return strings.Compare(a.Name, b.Name) })
	return f.Regions, nil
}

// release is one of cfn-lint's.
type release struct {
	version string
	// date is the day of its schemas, as 2006-01-02.
	date string
	// types are those of each region that tells a list of its own, sorted.
	types map[string][]string
	// instances are the classes of each region, by service.
	instances map[string]map[string][]string
}

// readRelease reads a release's schemas.
func readRelease(w *cfnlint.Wheel) (*release, error) {
	r, err := readSchemas(w)
	if err != nil {
		return nil, err
	}
	r.version = w.Version
	return r, nil
}

func readSchemas(from fs.FS) (*release, error) {
	r := &release{types: map[string][]string{}, instances: map[string]map[string][]string{}}
	lists, err := cfnlint.Lists(from)
	if err != nil {
		return nil, err
	}
	for name, types := range lists {
		r.types[name] = slices.Sorted(maps.Keys(types))
	}
	first := r.types[firstRegion]
	if len(first) == 0 {
		return nil, fmt.Errorf("there is no list of %s", firstRegion)
	}
	maps.DeleteFunc(r.types, func(name string, list []string) bool { return name != firstRegion && slices.Equal(list, first) })
	if r.date, err = dateOf(from); err != nil {
		return nil, err
	}
	return r, r.readInstances(from)
}

// dateOf is the day of a release's schemas: as it says, or else when it was built.
func dateOf(from fs.FS) (string, error) {
	text, err := fs.ReadFile(from, path.Join(cfnlint.Schemas, "version.json"))
	if err == nil {
		var v struct {
			Date time.Time `json:"schema_date"`
		}
		if err := json.Unmarshal(text, &v); err != nil || v.Date.IsZero() {
			return "", errors.Join(errors.New("version.json tells no date"), err)
		}
		return v.Date.UTC().Format(time.DateOnly), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	info, err := fs.Stat(from, "cfnlint/helpers.py")
	if err != nil {
		return "", err
	}
	return info.ModTime().UTC().Format(time.DateOnly), nil
}

// rdsEngines are the engines whose classes are kept.
var rdsEngines = []string{"aurora-mysql", "aurora-postgresql", "mariadb", "mysql", "postgres"}

// readInstances reads the classes of instances that each region offers.
func (r *release) readInstances(from fs.FS) error {
	for service, file := range map[string]string{
		"ec2":         "aws_ec2_instance/instancetype_enum.json",
		"elasticache": "aws_elasticache_cachecluster/cachenodetype_enum.json",
	} {
		byRegion, err := readExtension(from, file)
		if err != nil {
			return err
		}
		for name, text := range byRegion {
			var list struct {
				Enum []string `json:"enum"`
			}
			if err := json.Unmarshal(text, &list); err != nil {
				return fmt.Errorf("%s: %s: %w", file, name, err)
			}
			r.addInstances(service, name, list.Enum)
		}
	}
	const file = "aws_rds_dbinstance/dbinstanceclass_enum.json"
	byRegion, err := readExtension(from, file)
	if err != nil {
		return err
	}
	for name, text := range byRegion {
		// A rule for each engine and license: if the engine is this, the class is one of these.
		var rules struct {
			AllOf []struct {
				If struct {
					Properties struct {
						Engine struct {
							Const string `json:"const"`
						} `json:"Engine"`
					} `json:"properties"`
				} `json:"if"`
				Then struct {
					Properties struct {
						Class struct {
							Enum []string `json:"enum"`
						} `json:"DBInstanceClass"`
					} `json:"properties"`
				} `json:"then"`
			} `json:"allOf"`
		}
		if err := json.Unmarshal(text, &rules); err != nil {
			return fmt.Errorf("%s: %s: %w", file, name, err)
		}
		for _, rule := range rules.AllOf {
			if engine := rule.If.Properties.Engine.Const; slices.Contains(rdsEngines, engine) {
				r.addInstances("rds/"+engine, name, rule.Then.Properties.Class.Enum)
			}
		}
	}
	return nil
}

func (r *release) addInstances(service, region string, classes []string) {
	if r.instances[service] == nil {
		r.instances[service] = map[string][]string{}
	}
	all := slices.Concat(r.instances[service][region], classes)
	slices.Sort(all)
	r.instances[service][region] = slices.Compact(all)
}

// readExtension reads a file whose keys are regions; others are left out.
func readExtension(from fs.FS, file string) (map[string]json.RawMessage, error) {
	text, err := fs.ReadFile(from, path.Join(cfnlint.Schemas, "extensions", file))
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return !cfnlint.RegionName.MatchString(name) })
	return all, nil
}
