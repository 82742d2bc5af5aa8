package capture

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"goldsmith/internal/network/netswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		h.Tap("build", netswitch.FromPort, []byte("nobody listens"))
		var out bytes.Buffer
		done := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			_, err := h.Stream(&out, done)
			ended <- err
		}()
		synctest.Wait()
		h.Tap("build", netswitch.FromPort, []byte("first frame"))
		h.Tap("build", netswitch.ToPort, []byte("seen already"))
		h.Tap("proxy", netswitch.FromPort, []byte("second"))
		h.Tap("build", netswitch.FromPort, []byte("third"))
		synctest.Wait()
		close(done)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		// Each block repeats its length at its end.
		var kinds []uint32
		for b := out.Bytes(); len(b) > 0; {
			n := binary.LittleEndian.Uint32(b[4:])
			if n%4 != 0 || int(n) > len(b) || binary.LittleEndian.Uint32(b[n-4:]) != n {
				t.Fatalf("block of %d bytes in %d", n, len(b))
			}
			kinds = append(kinds, binary.LittleEndian.Uint32(b))
			b = b[n:]
		}
		want := []uint32{sectionHeader, interfaceBlock, enhancedPacket, interfaceBlock, enhancedPacket, enhancedPacket}
		if len(kinds) != len(want) {
			t.Fatalf("blocks %x, want %x", kinds, want)
		}
		for i := range want {
			if kinds[i] != want[i] {
				t.Fatalf("blocks %x, want %x", kinds, want)
			}
		}
		if !bytes.Contains(out.Bytes(), []byte("second")) || bytes.Contains(out.Bytes(), []byte("seen already")) {
			t.Error("want what ports sent")
		}
		if h.readers.Load() != nil {
			t.Error("a reader stays")
		}
	})
}
