package qemu_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"goldsmith/internal/machine/guardian"
)

// rootContext is for what all tests share.
var rootContext = context.Background()

func TestMain(m *testing.M) {
	guardian.Main()
	if isFakeQEMU() {
		runFakeQEMU()
	}
	goleak.VerifyTestMain(m)
}
