package buildtest

import (
	"io"
	"strings"

	"goldsmith/internal/blob"
	"goldsmith/internal/run"
)

// StoredLog is the text of a run's blob called name in its staging account.
func (l *Lab) StoredLog(rec run.Record, name string) string {
	l.Helper()
	ctx := l.Context()
	template, err := l.Engine.FindTemplate(ctx, rec.Template)
	if err != nil {
		l.Fatal(err)
	}
	_, contents, err := l.Engine.StagingGroup(ctx, template)
	if err != nil {
		l.Fatal(err)
	}
	account := ""
	for _, c := range contents {
		if strings.EqualFold(c.Type, "Microsoft.Storage/storageAccounts") {
			account = c.Name
		}
	}
	body, _, err := l.Engine.Blobs().Open(ctx, blob.Name{Account: account, Container: "packerlogs", Blob: rec.ID + "/" + name}, 0, -1)
	if err != nil {
		l.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		l.Fatal(err)
	}
	return string(text)
}
