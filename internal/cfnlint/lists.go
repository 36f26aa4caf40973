package cfnlint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// Schemas is the folder in which a release keeps AWS's schemas.
const Schemas = "cfnlint/data/schemas"

// RegionName is what regions are called; a release also has lists that are none's.
var RegionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d+$`)

// Lists are the types of each region that a release lists, each with the name of its
// schema.
func Lists(from fs.FS) (map[string]map[string]string, error) {
	files, err := listFiles(from)
	if err != nil {
		return nil, err
	}
	lists := map[string]map[string]string{}
	for name, file := range files {
		if lists[name], err = readList(from, file); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

// List are the types of one region, with the names of their schemas; nil where the
// release does not list it.
func List(from fs.FS, region string) (map[string]string, error) {
	files, err := listFiles(from)
	if err != nil || files[region] == "" {
		return nil, err
	}
	return readList(from, files[region])
}

// listFiles are the files of the regions' lists. Their form has changed over the years: a
// region's is REGION.json, REGION.py or a folder of that name, with underscores; the
// oldest name no schemas.
func listFiles(from fs.FS) (map[string]string, error) {
	entries, err := fs.ReadDir(from, path.Join(Schemas, "providers"))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		name, file := e.Name(), path.Join(Schemas, "providers", e.Name())
		if e.IsDir() {
			file = path.Join(file, "__init__.py")
		} else if ext := path.Ext(name); ext == ".json" || ext == ".py" {
			name = strings.TrimSuffix(name, ext)
		}
		name = strings.ReplaceAll(name, "_", "-")
		if RegionName.MatchString(name) { // others are no region's: those of transforms
			files[name] = file
		}
	}
	return files, nil
}

func readList(from fs.FS, file string) (map[string]string, error) {
	text, err := fs.ReadFile(from, file)
	if err != nil {
		return nil, err
	}
	parse := parsePython
	if path.Ext(file) == ".json" {
		parse = parseObject
	}
	types, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return types, nil
}

// Schema reads one schema of those that the lists name.
func Schema(from fs.FS, name string) ([]byte, error) {
	return fs.ReadFile(from, path.Join(Schemas, "resources", name+".json"))
}

// quotedType is a type and, where there is one, its schema.
var quotedType = regexp.MustCompile(`"([A-Za-z0-9]+(?:::[A-Za-z0-9]+){2,3})"(?:: *"([0-9a-f]+)")?`)

// parseObject reads types that are the keys of an object.
func parseObject(text []byte) (map[string]string, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	types := make(map[string]string, len(o))
	for t, raw := range o {
		var schema string
		if err := json.Unmarshal(raw, &schema); err != nil {
			schema = "" // an older form: what stands there names no schema
		}
		types[t] = schema
	}
	return types, nil
}

// parsePython reads types that are quoted in a program.
func parsePython(text []byte) (map[string]string, error) {
	types := map[string]string{}
	for _, m := range quotedType.FindAllSubmatch(text, -1) {
		types[string(m[1])] = string(m[2])
	}
	if len(types) == 0 {
		return nil, errors.New("there are no types in it")
	}
	return types, nil
}
