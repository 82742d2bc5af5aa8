package storetest

import (
	"encoding/json"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
)

// Documents is the suite of document.Store.
func Documents(t *testing.T, open func(t *testing.T) Database) {
	each(t, open, []test{{"PutGetDelete", documentPut}, {"List", documentList}})
}

func documentPut(t *testing.T, db Database) {
	s, ctx := db.Documents("catalog"), t.Context()
	body := json.RawMessage(`{"a": [1, 2.0]}`)
	first := must(s.Put(ctx, "Debian:Debian-12", body, document.Condition{IfNoneMatch: true}))(t)
	if string(first.Body) != string(body) || first.Key != "Debian:Debian-12" || first.ETag == "" || first.UpdatedAt.IsZero() {
		t.Fatalf("%+v", first)
	}
	same(t, first, must(s.Get(ctx, "debian:DEBIAN-12"))(t))
	_, err := s.Put(ctx, "debian:debian-12", body, document.Condition{IfNoneMatch: true})
	wantCode(t, err, arm.CodePreconditionFailed)
	second := must(s.Put(ctx, "debian:debian-12", json.RawMessage(`null`), document.Condition{IfMatch: first.ETag}))(t)
	if second.ETag == first.ETag || second.Key != first.Key || string(second.Body) != "null" {
		t.Fatalf("%+v", second)
	}
	_, err = s.Put(ctx, "debian:debian-12", body, document.Condition{IfMatch: first.ETag})
	wantCode(t, err, arm.CodePreconditionFailed)
	_, err = s.Put(ctx, "none", body, document.Condition{IfMatch: first.ETag})
	wantCode(t, err, arm.CodePreconditionFailed)
	for _, bad := range []string{"", "{", "x"} {
		_, err = s.Put(ctx, "k", json.RawMessage(bad), document.Condition{})
		wantCode(t, err, arm.CodeInternal)
	}
	_, err = s.Put(ctx, "", body, document.Condition{})
	wantCode(t, err, arm.CodeInternal)

	_, err = db.Documents("other").Get(ctx, "debian:debian-12")
	wantCode(t, err, arm.CodeNotFound)
	wantCode(t, s.Delete(ctx, "debian:debian-12", document.Condition{IfMatch: first.ETag}), arm.CodePreconditionFailed)
	ok(t, s.Delete(ctx, "DEBIAN:debian-12", document.Condition{IfMatch: second.ETag}))
	wantCode(t, s.Delete(ctx, "debian:debian-12", document.Condition{}), arm.CodeNotFound)
}

func documentList(t *testing.T, db Database) {
	s, ctx := db.Documents("catalog"), t.Context()
	for _, key := range []string{"b", "A:2", "a:1", "a%", "aé", "a\uffff", "AZ"} {
		must(s.Put(ctx, key, json.RawMessage(`1`), document.Condition{}))(t)
	}
	must(db.Documents("other").Put(ctx, "a:0", json.RawMessage(`1`), document.Condition{}))(t)
	keys := func(prefix string) (got []string) {
		t.Helper()
		for _, r := range must(s.List(ctx, prefix))(t) {
			got = append(got, r.Key)
		}
		return got
	}
	same(t, []string{"a%", "a:1", "A:2", "AZ", "aé", "a\uffff", "b"}, keys(""))
	same(t, []string{"a:1", "A:2"}, keys("A:"))
	same(t, []string{"a%"}, keys("a%"))
	same(t, nil, keys("c"))
}
