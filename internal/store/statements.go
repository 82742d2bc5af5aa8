package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// maxStatements bounds the statements that a pool keeps prepared. There are fewer
// texts than that: those of lists vary with what is asked for, and those of the
// audit with how much there is to write.
const maxStatements = 200

// statements are the prepared statements of a pool, by text: preparing one takes
// longer than most of them run.
type statements struct {
	pool *sql.DB

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
	wanted   map[string]bool // asked for within a transaction
}

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, prepared: map[string]*sql.Stmt{}, wanted: map[string]bool{}}
}

// find is the prepared statement of a text, nil for none.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.prepared[query]
}

// prepare is the statement of a text, nil when enough are kept already. No lock is
// held while it waits for a connection: whoever has that one may be asking, too.
func (s *statements) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.RLock()
	stmt, full := s.prepared[query], len(s.prepared) >= maxStatements
	s.mu.RUnlock()
	if stmt != nil || full {
		return stmt, nil
	}
	made, err := s.pool.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.prepared[query]; stmt != nil {
		return stmt, made.Close() // another one was faster
	}
	s.prepared[query] = made
	return made, nil
}

// want notes that a transaction would have used a statement. It cannot prepare it
// itself: the pool's one connection is its own.
func (s *statements) want(query string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prepared)+len(s.wanted) < maxStatements {
		s.wanted[query] = true
	}
}

// prepareWanted prepares what transactions wanted before.
func (s *statements) prepareWanted(ctx context.Context) error {
	s.mu.RLock()
	none := len(s.wanted) == 0
	s.mu.RUnlock()
	if none {
		return nil
	}
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = map[string]bool{}
	s.mu.Unlock()
	for query := range wanted {
		if _, err := s.prepare(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for query, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
		delete(s.prepared, query)
	}
	return errors.Join(errs...)
}

// QueryContext implements querier.
func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := s.prepare(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case stmt == nil:
		return s.pool.QueryContext(ctx, query, args...)
	}
	return stmt.QueryContext(ctx, args...)
}

// QueryRowContext implements querier. It looks at ctx before the statement runs
// and not while it does: reading one row is too short for the two goroutines that
// watching takes.
func (s *statements) QueryRowContext(ctx context.Context, query string, args ...any) scanner {
	stmt, err := s.prepare(ctx, query)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return failedRow{err}
	}
	ctx = context.WithoutCancel(ctx)
	if stmt == nil {
		return s.pool.QueryRowContext(ctx, query, args...)
	}
	return stmt.QueryRowContext(ctx, args...)
}

// failedRow is the row of a query that could not be asked.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// transaction is one write transaction. Its statements are not interrupted:
// whoever waits for it waits for milliseconds.
type transaction struct {
	*sql.Tx
	statements *statements
}

func (t transaction) stmt(ctx context.Context, query string) *sql.Stmt {
	stmt := t.statements.find(query)
	if stmt == nil {
		t.statements.want(query)
		return nil
	}
	return t.StmtContext(ctx, stmt)
}

// ExecContext is that of the transaction.
func (t transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx = context.WithoutCancel(ctx)
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// QueryContext implements querier.
func (t transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx = context.WithoutCancel(ctx)
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext implements querier.
func (t transaction) QueryRowContext(ctx context.Context, query string, args ...any) scanner {
	ctx = context.WithoutCancel(ctx)
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}
