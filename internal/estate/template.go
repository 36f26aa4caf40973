package estate

import _ "embed"

//go:embed template.yaml
var template []byte

// Template is the commented estate file that a newcomer begins with. It loads
// without a problem, and shows every key there is.
func Template() []byte { return append([]byte(nil), template...) }
