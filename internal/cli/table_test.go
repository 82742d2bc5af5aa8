package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

type image struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

var imageColumns = []Column[image]{
	{"name", func(i image) string { return i.Name }},
	{"size", func(i image) string { return Bytes(i.Size) }},
}

func TestWriteList(t *testing.T) {
	rows := []image{{"hello", 700 << 20}, {"漢字\x1b[2J", 1}, {"", 8 << 30}}
	tests := []struct {
		name   string
		format Format
		rows   []image
		want   string
	}{
		{"table", FormatTable, rows, "NAME   SIZE\nhello  700 MiB\n漢字   1 B\n-      8.0 GiB\n"},
		{"empty table", FormatTable, nil, "NAME  SIZE\n"},
		{"json", FormatJSON, rows[:1], "[\n  {\n    \"name\": \"hello\",\n    \"size\": 734003200\n  }\n]\n"},
		{"empty json", FormatJSON, nil, "[]\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := WriteList(&out, test.format, imageColumns, test.rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if err := WriteList(brokenPipe{}, FormatTable, imageColumns, rows); err == nil {
		t.Error("a failed write gives no error")
	}
}

func TestWriteRecord(t *testing.T) {
	fields := append(imageColumns, Column[image]{"notes", func(image) string { return "one\ntwo\x07\n" }}, Column[image]{"empty", func(image) string { return "" }})
	var out bytes.Buffer
	if err := WriteRecord(&out, FormatTable, fields, image{"hello", 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("name:   hello\nsize:   1.0 MiB\nnotes:  one\n        two\n", out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out.Reset()
	if err := WriteRecord(&out, FormatJSON, fields, image{"hello", 1}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{\n  \"name\": \"hello\",\n  \"size\": 1\n}\n", out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFormatFlag(t *testing.T) {
	f := FormatTable
	if err := f.Set("json"); err != nil || f != FormatJSON {
		t.Errorf("Set(json) gives %q, %v", f, err)
	}
	if err := f.Set("yaml"); !arm.IsCode(err, arm.CodeUsage) {
		t.Errorf("Set(yaml) gives %v, want a usage error", err)
	}
}

func TestQuantities(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	tests := []struct{ got, want string }{
		{Bytes(0), "0 B"},
		{Bytes(1536), "1.5 KiB"},
		{Bytes(-1536), "-1.5 KiB"},
		{Bytes(-1 << 63), "-8.0 EiB"},
		{Age(now.Add(-3*time.Hour), now), "3 hours ago"},
		{Age(now, now), "now"},
		{Age(time.Time{}, now), "-"},
		{Elapsed(-time.Second), "0.0s"},
		{Elapsed(449 * time.Millisecond), "0.4s"},
		{Elapsed(9949 * time.Millisecond), "9.9s"},
		{Elapsed(9950 * time.Millisecond), "10s"},
		{Elapsed(59600 * time.Millisecond), "1m00s"},
		{Elapsed(185 * time.Second), "3m05s"},
		{Elapsed(2 * time.Hour), "2h00m"},
		{remaining(90 * time.Second), "1m30s"},
		{remaining(900 * time.Millisecond), "1s"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
