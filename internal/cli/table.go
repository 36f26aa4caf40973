package cli

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

const (
	// columnGap separates two columns.
	columnGap = "  "
	// narrowest is what a column is not wrapped below, in characters.
	narrowest = 16
)

// cell is a table's cell: its text, and how it is painted.
type cell struct {
	text  string
	paint func(string) string
	right bool
}

// table prints aligned columns; what does not fit into the width is wrapped in
// the last columns, which hold sentences.
type table struct {
	head []string
	rows [][]cell
	// wrap are the columns whose text may be wrapped.
	wrap map[int]bool
}

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

func plain(text string) cell  { return cell{text: text} }
func number(text string) cell { return cell{text: text, right: true} }

// write prints the table at most width characters wide; 0 is as wide as it gets.
func (t *table) write(w io.Writer, s style, width int) error {
	rows := t.rows
	if len(t.head) > 0 {
		head := make([]cell, len(t.head))
		for i, h := range t.head {
			head[i] = cell{text: h, paint: s.bold}
			for _, r := range t.rows {
				head[i].right = head[i].right || i < len(r) && r[i].right
			}
		}
		rows = append([][]cell{head}, rows...)
	}
	widths := t.widths(rows, width)
	var b strings.Builder
	for _, r := range rows {
		t.row(&b, r, widths)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths are the columns' widths: as their text needs, and where that is more
// than there is, the wrapped columns share what is left.
func (t *table) widths(rows [][]cell, width int) []int {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			for line := range strings.SplitSeq(c.text, "\n") {
				widths[i] = max(widths[i], runewidth.StringWidth(line))
			}
		}
	}
	if width <= 0 || len(t.wrap) == 0 {
		return widths
	}
	room, wanted := width, 0
	for i, n := range widths {
		if i > 0 {
			room -= len(columnGap)
		}
		if t.wrap[i] {
			wanted += n
		} else {
			room -= n
		}
	}
	if wanted <= room {
		return widths
	}
	for i, n := range widths {
		if t.wrap[i] {
			widths[i] = min(n, max(narrowest, room*n/wanted))
		}
	}
	return widths
}

func (t *table) row(b *strings.Builder, r []cell, widths []int) {
	columns, height := make([][]string, len(r)), 0
	for i, c := range r {
		columns[i] = strings.Split(c.text, "\n")
		if t.wrap[i] {
			columns[i] = wrapped(c.text, widths[i])
		}
		height = max(height, len(columns[i]))
	}
	for line := range height {
		var text strings.Builder
		for i, c := range r {
			if i > 0 {
				text.WriteString(columnGap)
			}
			part := ""
			if line < len(columns[i]) {
				part = columns[i][line]
			}
			fill := strings.Repeat(" ", max(0, widths[i]-runewidth.StringWidth(part)))
			if c.paint != nil {
				part = c.paint(part)
			}
			if c.right {
				text.WriteString(fill + part)
			} else {
				text.WriteString(part + fill)
			}
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}

// wrapped breaks a text into lines at spaces; a word that is longer than a line
// is broken where the line ends.
func wrapped(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			if line != "" && runewidth.StringWidth(line)+1+runewidth.StringWidth(word) <= width {
				line += " " + word
				continue
			}
			if line != "" {
				lines = append(lines, line)
			}
			for width > 0 && runewidth.StringWidth(word) > width {
				head := runewidth.Truncate(word, width, "")
				if head == "" { // a character that is wider than the column
					break
				}
				lines, word = append(lines, head), word[len(head):]
			}
			line = word
		}
		lines = append(lines, line)
	}
	return lines
}
