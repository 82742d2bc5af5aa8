package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestReaderReturnsWhatAppendWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frames := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), HeaderSize, 3000)).Draw(t, "frames")
		var stream []byte
		for _, f := range frames {
			stream = Append(stream, f)
		}
		r := NewReader(bytes.NewReader(stream))
		for i, want := range frames {
			got, err := r.Next()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("frame %d: got %d bytes and %v, want %d", i, len(got), err, len(want))
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("after the last frame: %v, want EOF", err)
		}
	})
}

func TestReaderRefusesBadStreams(t *testing.T) {
	good := bytes.Repeat([]byte{7}, 60)
	largest := make([]byte, MaxSize)
	tests := []struct {
		name   string
		stream []byte
		want   []error // of each Next
	}{
		{"empty", nil, []error{io.EOF}},
		{"half a length", []byte{0, 0}, []error{io.ErrUnexpectedEOF}},
		{"half a frame", Append(nil, good)[:30], []error{io.ErrUnexpectedEOF}},
		{"length without frame", []byte{0, 0, 0, 60}, []error{io.ErrUnexpectedEOF}},
		{"runt, then a frame", Append(Append(nil, good[:13]), good), []error{ErrRunt, nil, io.EOF}},
		{"empty frame, then a frame", Append(Append(nil, nil), good), []error{ErrRunt, nil, io.EOF}},
		{"largest", Append(nil, largest), []error{nil, io.EOF}},
		{"oversize", Append(nil, append(largest, 0)), []error{ErrOversize}},
		{"absurd length", binary.BigEndian.AppendUint32(nil, 1<<31), []error{ErrOversize}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(bytes.NewReader(tt.stream))
			for i, want := range tt.want {
				if _, err := r.Next(); !errors.Is(err, want) {
					t.Errorf("frame %d: got %v, want %v", i, err, want)
				}
			}
		})
	}
}

func TestParseMAC(t *testing.T) {
	got, err := ParseMAC("52:54:00:67:6D:04")
	if err != nil || got.String() != "52:54:00:67:6d:04" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "52:54:00:67:6d", "53:54:00:67:6d:04", "ff:ff:ff:ff:ff:ff", "02-00-5e-10-00-00-00-01"} {
		if m, err := ParseMAC(bad); err == nil {
			t.Errorf("%q parses as %v", bad, m)
		}
	}
}

func TestDatagramRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mac := rapid.Custom(func(t *rapid.T) MAC { return MAC(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac")) })
		addr := rapid.Custom(func(t *rapid.T) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr"))), rapid.Uint16().Draw(t, "port"))
		})
		want := Datagram{
			From: mac.Draw(t, "from"), To: mac.Draw(t, "to"),
			Source: addr.Draw(t, "source"), Target: addr.Draw(t, "target"),
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 1472).Draw(t, "payload"),
		}
		got, ok := ParseDatagram(want.Frame())
		if !ok {
			t.Fatal("does not parse")
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(Append(nil, make([]byte, 60)))
	f.Add(Append(Append(nil, make([]byte, 3)), make([]byte, 14)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		left := len(stream)
		for {
			b, err := r.Next()
			if errors.Is(err, ErrRunt) {
				continue
			}
			if err != nil {
				return
			}
			left -= PrefixSize + len(b)
			if len(b) < HeaderSize || len(b) > MaxSize || left < 0 {
				t.Fatalf("frame of %d bytes out of %d", len(b), len(stream))
			}
		}
	})
}

func FuzzParseDatagram(f *testing.F) {
	a := netip.MustParseAddrPort("10.0.0.4:68")
	f.Add(Datagram{Source: a, Target: a, Payload: []byte("x")}.Frame())
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := ParseDatagram(b); ok && len(d.Payload) > len(b)-HeaderSize-28 {
			t.Fatalf("payload of %d bytes in a frame of %d", len(d.Payload), len(b))
		}
	})
}
