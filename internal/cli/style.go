package cli

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"golang.org/x/term"
)

// style colours text that is written to a terminal.
type style struct{ on bool }

func newStyle(w io.Writer, off bool) style {
	return style{on: !off && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)}
}

// isTerminal says whether somebody looks at what is written, or types what is read.
func isTerminal(rw any) bool {
	f, ok := rw.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// width is a terminal's width in characters; 0 for what is not a terminal.
func width(w io.Writer) int {
	n, _ := size(w)
	return n
}

// size is a terminal's width and height in characters; zeros for what is not a terminal.
func size(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.paint("1", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) red(text string) string    { return s.paint("31", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }
