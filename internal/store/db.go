// Package store keeps the program's records in a database: resources, runs,
// layers and documents. SQLite serves one host; the SQL is written so that
// PostgreSQL can serve several with the same code.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	_ "modernc.org/sqlite" // the "sqlite" driver

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/layer"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// busyTimeout is how long a write waits for another process's write.
const busyTimeout = 20 * time.Second

// DB is an open database. It is safe for concurrent use, and any number of
// processes may have the same file open.
type DB struct {
	write   *sql.DB // one connection: SQLite has one writer, and River asks for it
	reads   *sql.DB
	writing *statements // on write
	read    *statements // on reads
	dialect dialect
	path    string
}

// Open opens the SQLite database at path, creates it when it is missing, and
// brings its tables up to date. The directory must exist. Committed writes
// survive the death of any process; a power failure may take the last few.
//
// The errors are arm.Error: CodeNotSupported for a network file system,
// CodeCorrupt for a file that is no sound database, CodeNoSpace on a full disk.
func Open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "open database %q: %w", path, err)
	}
	if err := refuseNetworkFileSystem(filepath.Dir(abs)); err != nil {
		return nil, err
	}
	d := &DB{dialect: sqliteDialect, path: abs}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(d.fault(ctx, "open database", err), d.Close())
	}
	return d, nil
}

func (d *DB) open(ctx context.Context) error {
	release, err := lockForMigration(ctx, d.path)
	if err != nil {
		return err
	}
	defer release()

	if d.write, err = sql.Open("sqlite", dsn(d.path, "_txlock=immediate")); err != nil {
		return err
	}
	d.write.SetMaxOpenConns(1)
	if err := d.migrate(ctx); err != nil {
		return err
	}
	// The file holds identities' secrets; nobody else on the host may read it.
	if err := os.Chmod(d.path, 0o600); err != nil {
		return err
	}
	d.writing = newStatements(d.write)
	if d.reads, err = sql.Open("sqlite", dsn(d.path, "_query_only=1")); err != nil {
		return err
	}
	readers := max(4, runtime.NumCPU())
	d.reads.SetMaxOpenConns(readers)
	d.reads.SetMaxIdleConns(readers)
	d.read = newStatements(d.reads)
	return nil
}

// checkpointPages is how many pages of 4 KiB the write-ahead log may hold before a
// writer moves them into the database file, which forces both to the disk while the
// others wait: rarely, so that fewer than one in a hundred waits for it.
const checkpointPages = 16384

func dsn(path, mode string) string {
	u := url.URL{Scheme: "file", Path: path}
	return fmt.Sprintf("%s?%s&_pragma=busy_timeout(%d)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=wal_autocheckpoint(%d)&_pragma=foreign_keys(1)",
		u.String(), mode, busyTimeout.Milliseconds(), checkpointPages)
}

// Close closes the database. Everything using Writer must have stopped.
func (d *DB) Close() error {
	var errs []error
	for _, kept := range []*statements{d.read, d.writing} {
		if kept != nil {
			errs = append(errs, kept.close())
		}
	}
	if d.reads != nil {
		errs = append(errs, d.reads.Close())
	}
	if d.write != nil {
		errs = append(errs, d.write.Close())
	}
	return errors.Join(errs...)
}

// Path is the absolute path of the database file.
func (d *DB) Path() string { return d.path }

// Writer is the pool of the one writing connection, which the job queue shares.
// A transaction on it must be short and must not call into this DB.
func (d *DB) Writer() *sql.DB { return d.write }

// Resources is the store of resource records.
func (d *DB) Resources() resource.Store { return &resourceStore{d} }

// Runs is the store of runs.
func (d *DB) Runs() run.Store { return runStore{d} }

// Layers is the index of layers.
func (d *DB) Layers() layer.Index { return layerIndex{d} }

// Documents is the collection called name.
func (d *DB) Documents(name string) document.Store { return documentStore{d, name} }

// tx runs f in one write transaction, which is rolled back when f fails.
func (d *DB) tx(ctx context.Context, f func(transaction) error) error {
	if err := d.writing.prepareWanted(ctx); err != nil {
		return err
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(transaction{tx, d.writing}); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// querier is what a transaction and a pool have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) scanner
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// collect reads every row of a query with scan.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (_ []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// toMillis is t as the database keeps it; the zero time is 0.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// nullable turns an empty JSON value into SQL null.
func nullable(raw []byte) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

// text is a nullable column read back as JSON; null is nil.
func text(s sql.NullString) []byte {
	if !s.Valid {
		return nil
	}
	return []byte(s.String)
}
