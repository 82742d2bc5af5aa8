package cli

import (
	"errors"
	"fmt"
	"io"

	"goldsmith/internal/arm"
)

// maxFaultDetails bounds how many details WriteFault lists.
const maxFaultDetails = 50

// WriteFault prints the error that ends the program to w: its message behind
// "goldsmith:", then its details. An ExitStatus prints nothing, because the
// command of the guest has said what there is to say.
func WriteFault(w io.Writer, err error) error {
	var status ExitStatus
	if err == nil || errors.As(err, &status) {
		return nil
	}
	lines := terminalLines(err.Error())
	for i, line := range lines {
		lead := "goldsmith: "
		if i > 0 {
			lead = "  "
		}
		if _, err := fmt.Fprintf(w, "%s%s\n", lead, line); err != nil {
			return err
		}
	}
	var coded *arm.Error
	if !errors.As(err, &coded) {
		return nil
	}
	for i, d := range coded.Details {
		if i == maxFaultDetails {
			_, err := fmt.Fprintf(w, "  ... and %d more\n", len(coded.Details)-i)
			return err
		}
		for _, line := range terminalLines(d.Error()) {
			if _, err := fmt.Fprintf(w, "  %s\n", line); err != nil {
				return err
			}
		}
	}
	return nil
}
