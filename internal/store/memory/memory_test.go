package memory_test

import (
	"testing"

	"goldsmith/internal/store/memory"
	"goldsmith/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Conformance(t, func(*testing.T) storetest.Database { return memory.New() })
}
