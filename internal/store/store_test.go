package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/internal/store"
	"goldsmith/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("STORE_TEST_ROLE"); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

// database makes an open DB pass for a storetest.Database.
type database struct {
	*store.DB
	t *testing.T
}

func (d database) Elapse(by time.Duration) {
	for _, statement := range []string{
		`update runs set lease_expires_at = lease_expires_at - $1 where lease_expires_at > 0`,
		`update layers set last_used_at = last_used_at - $1`,
	} {
		if _, err := d.Writer().ExecContext(d.t.Context(), statement, by.Milliseconds()); err != nil {
			d.t.Fatal(err)
		}
	}
}

func open(t *testing.T) *store.DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "goldsmith.db"))
}

func openAt(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestConformance(t *testing.T) {
	storetest.Conformance(t, func(t *testing.T) storetest.Database { return database{open(t), t} })
}
