package store

import (
	"embed"
	"errors"
	"io/fs"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"goldsmith/internal/arm"
)

//go:embed migrations
var migrations embed.FS

// dialect is what differs between database engines. All other SQL is common:
// $1 parameters, upserts, RETURNING.
type dialect struct {
	goose      goose.Dialect
	migrations fs.FS
	// now is an expression for the database's clock in milliseconds since 1970.
	now string
	// classify names the fault behind a driver error, ok false for one that has
	// no code of its own.
	classify func(error) (code arm.Code, advice string, ok bool)
}

var sqliteDialect = dialect{
	goose:      goose.DialectSQLite3,
	migrations: mustSub("migrations/sqlite"),
	now:        "cast(unixepoch('now', 'subsec') * 1000 as integer)",
	classify:   classifySQLite,
}

func mustSub(dir string) fs.FS {
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		panic(err) // the directory is part of the binary
	}
	return sub
}

func classifySQLite(err error) (arm.Code, string, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return "", "", false
	}
	switch e.Code() & 0xff { // the rest of an extended code is detail
	case sqlite3.SQLITE_FULL:
		return arm.CodeNoSpace, "the disk that holds it is full; free some space and try again, nothing was lost", true
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return arm.CodeCorrupt, "the file is damaged or is not a database; restore it from a back-up, or move it away to start anew", true
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return arm.CodeConflict, "another process kept it locked for too long; try again", true
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return arm.CodeInternal, "it cannot be written; check the owner and mode of the file and its directory", true
	case sqlite3.SQLITE_CANTOPEN:
		return arm.CodeInternal, "it cannot be opened; check that its directory exists and may be written", true
	case sqlite3.SQLITE_IOERR:
		return arm.CodeInternal, "the disk reported an error; see the kernel log", true
	}
	return "", "", false
}
