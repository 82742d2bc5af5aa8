package qemu_test

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/machine/guardian"
)

// rootContext is for what all tests share.
var rootContext = context.Background()

// scratch is a directory that tests share; it is removed after the last.
var scratch string

func TestMain(m *testing.M) {
	guardian.Main()
	if isFakeQEMU() {
		runFakeQEMU()
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if scratch != "" {
			os.RemoveAll(scratch)
		}
		os.Exit(code)
	}))
}
