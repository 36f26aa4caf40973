package estate

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// Text is the estate as a file, with what is left to defaults written out: Load
// reads the same estate from it. Secrets stay where they are kept.
func (e *Estate) Text() ([]byte, error) {
	text, err := yaml.MarshalWithOptions(e, yaml.JSON()) // every text in quotes
	if err != nil {
		return nil, fmt.Errorf("write the estate: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("write the estate: with its defaults it is larger than %s: split it over several estates", Size(maxFile))
	}
	return text, nil
}
