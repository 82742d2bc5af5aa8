//go:build vm

package recipe

import (
	"os"
	"testing"

	"goldsmith/internal/event"
)

func TestMake(t *testing.T) {
	dest := os.Getenv("OUT")
	err := Debian12().Make(t.Context(), dest, Options{Events: event.SinkFunc(func(e event.Event) { t.Log(e.Kind, e.Text) })})
	if err != nil {
		t.Fatal(err)
	}
}
