package landing

import "strings"

// marker begins the last line of a template as it is deployed; behind it stands the
// hash of what is above. A stack's tags would do for it too, but each change of a tag
// changes all of the stack's resources.
const marker = "# dhow:template "

// deployed is a template as it is given to CloudFormation.
func (t *Template) deployed() string {
	body := string(t.Body)
	if !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	return body + marker + hashOf([]byte(body)) + "\n"
}

// untouched says whether a stack's template is as dhow deployed it.
func untouched(body string) bool {
	above, hash, found := strings.Cut(body, marker)
	return found && strings.TrimSpace(hash) == hashOf([]byte(above))
}
