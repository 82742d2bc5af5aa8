package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"

	"goldsmith/internal/arm"
)

// Format is how lists are printed: the value of -o and --format. It is a
// pflag.Value.
type Format string

// The formats of lists.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// String is the format's name.
func (f Format) String() string { return string(f) }

// Set parses the value of the flag. The error is arm.CodeUsage.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case FormatTable, FormatJSON:
		*f = Format(s)
		return nil
	}
	return arm.Errorf(arm.CodeUsage, "unknown format %q: use table or json", s)
}

// Type is the name of the flag's value in help texts.
func (f *Format) Type() string { return "table|json" }

// Column is a column of a table, or a field of a record.
type Column[T any] struct {
	Title string
	Cell  func(T) string // may return hostile text
}

// WriteList prints rows: as a table with a line of titles, or as an indented
// JSON array of the rows themselves ("[]" for none).
func WriteList[T any](w io.Writer, f Format, columns []Column[T], rows []T) error {
	if f == FormatJSON {
		if rows == nil {
			rows = []T{}
		}
		return writeJSON(w, rows)
	}
	lines := make([][]string, 1, len(rows)+1)
	for _, c := range columns {
		lines[0] = append(lines[0], strings.ToUpper(c.Title))
	}
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = cell(c.Cell(row))
		}
		lines = append(lines, line)
	}
	_, err := io.WriteString(w, alignColumns(lines))
	return err
}

// WriteRecord prints one record: a line per field, or as an indented JSON
// object. Fields with an empty cell are left out of the lines, and a cell of
// several lines is indented.
func WriteRecord[T any](w io.Writer, f Format, fields []Column[T], record T) error {
	if f == FormatJSON {
		return writeJSON(w, record)
	}
	var lines [][]string
	for _, c := range fields {
		title := c.Title + ":"
		for _, text := range terminalLines(c.Cell(record)) {
			lines = append(lines, []string{title, text})
			title = ""
		}
	}
	_, err := io.WriteString(w, alignColumns(lines))
	return err
}

// writeJSON prints v indented, with a line feed at the end.
func writeJSON(w io.Writer, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "cannot print %T as JSON: %w", v, err)
	}
	_, err = fmt.Fprintf(w, "%s\n", out)
	return err
}

// cell is text as a table shows it.
func cell(text string) string {
	if text = strings.TrimSpace(terminalText(text)); text == "" {
		return "-"
	}
	return text
}

// alignColumns pads every cell but the last of a line to the width of its
// column, two blanks apart. Widths are those of a terminal: wide characters
// count twice.
func alignColumns(lines [][]string) string {
	var widths []int
	for _, line := range lines {
		for i, text := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], lipgloss.Width(text))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, text := range line {
			b.WriteString(text)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(text)+2))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
