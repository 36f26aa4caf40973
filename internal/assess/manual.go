package assess

import (
	"fmt"
	"io"
	"strings"
)

const manualHead = `# The rules of the assessment

What ` + "`dhow assess`" + ` looks for. Each finding names its rule by the id, says where it stands, and shows the facts. How findings are suppressed stands in
[dhow assess](commands/assess.md).

| severity | means |
|---|---|
| critical | lets a stranger in, or loses data |
| high | hurts today, or on the next rollout, or opens what must be closed |
| medium | will hurt on a bad day: a drain, a lost node, a second fault |
| low | costs money or order, or is a defence that lacks behind others |

"live" marks the rules that only a running cluster can show.
`

// WriteManual writes the page of all rules.
func WriteManual(w io.Writer) error {
	var b strings.Builder
	b.WriteString(manualHead)
	all := Rules()
	for _, g := range Groups() {
		n := 0
		for i := range all {
			if all[i].Group == g {
				n++
			}
		}
		title := strings.ReplaceAll(string(g), "-", " ")
		fmt.Fprintf(&b, "\n## %s (%d rules)\n\n| rule | severity | what is wrong | why it hurts | what mends it |\n|---|---|---|---|---|\n", strings.ToUpper(title[:1])+title[1:], n)
		for i := range all {
			if r := &all[i]; r.Group == g {
				severity := r.Severity.String()
				if r.Live {
					severity += ", live"
				}
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.ID, severity, r.Title, r.Why, r.Fix)
			}
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the page of the rules: %w", err)
	}
	return nil
}
