package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

func TestFullDisk(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var pages int
	if err := db.write.QueryRowContext(t.Context(), `pragma page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	// The engine reports a full disk as it reports its own page limit.
	if _, err := db.write.ExecContext(t.Context(), fmt.Sprintf(`pragma max_page_count = %d`, pages+20)); err != nil {
		t.Fatal(err)
	}
	big := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	_, _, err = db.Resources().Put(t.Context(), resource.Record{ID: "/big", Properties: big}, resource.Condition{})
	if !arm.IsCode(err, arm.CodeNoSpace) || !strings.Contains(err.Error(), "free some space") {
		t.Fatalf("full disk: %v", err)
	}
	if _, err := db.Resources().Get(t.Context(), "/big"); !arm.IsCode(err, arm.CodeNotFound) {
		t.Fatalf("half of a write is there: %v", err)
	}
	if _, _, err := db.Resources().Put(t.Context(), resource.Record{ID: "/small"}, resource.Condition{}); err != nil {
		t.Fatalf("a write that fits: %v", err)
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path)
	var coded *arm.Error
	if !errors.As(err, &coded) || coded.Code != arm.CodeCorrupt || coded.Target != path {
		t.Fatalf("open: %v", err)
	}
}

func TestDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		r := resource.Record{ID: fmt.Sprintf("/r%03d", n), Properties: json.RawMessage(`"` + strings.Repeat("x", 500) + `"`)}
		if _, _, err := db.Resources().Put(t.Context(), r, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// All but the schema's pages turn to rubbish.
	for at := len(file) / 2; at < len(file); at++ {
		file[at] = 0xa5
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err = Open(t.Context(), path)
	if err == nil {
		defer func() { _ = db.Close() }()
		_, _, err = db.Resources().List(t.Context(), resource.Query{})
	}
	if !arm.IsCode(err, arm.CodeCorrupt) {
		t.Fatalf("damaged pages: %v", err)
	}
}

func TestMissingDirectory(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none", "db")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open: %v", err)
	}
}

func TestNetworkFileSystems(t *testing.T) {
	for magic, name := range map[uint32]string{unix.NFS_SUPER_MAGIC: "NFS", unix.CIFS_SUPER_MAGIC: "SMB or CIFS", unix.V9FS_MAGIC: "9p"} {
		if err := refuseMagic(magic, "/data"); !arm.IsCode(err, arm.CodeNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, magic := range []uint32{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC} {
		if err := refuseMagic(magic, "/data"); err != nil {
			t.Errorf("%x: %v", magic, err)
		}
	}
}

func TestLockedByAnotherMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	release, err := lockForMigration(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("open under a held lock: %v", err)
	}
	release()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestQueriesUseIndexes(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for query, index := range map[string]string{
		`select id from resources where key >= '/a/' and key < '/a0' and key > '/a/b' order by key limit 5`:                            "sqlite_autoindex_resources_1",
		`select id from resources where type_key = 't' and key >= '/a/' and key < '/a0' order by key limit 5`:                          "resources_by_type",
		`select value from resource_tags where tag_key = 't' and resource_key >= '/a/' and resource_key < '/a0' order by resource_key`: "PRIMARY KEY",
		`select id from runs where template_key = 't' order by seq desc limit 5`:                                                       "runs_by_template",
	} {
		plan, err := collect(t.Context(), db.read, func(row scanner) (detail string, err error) {
			var skip any
			err = row.Scan(&skip, &skip, &skip, &detail)
			return detail, err
		}, `explain query plan `+query)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "; ")
		if !strings.Contains(all, index) || strings.Contains(all, "SCAN") || strings.Contains(all, "TEMP B-TREE") {
			t.Errorf("%s\nis done by: %s", query, all)
		}
	}
}
