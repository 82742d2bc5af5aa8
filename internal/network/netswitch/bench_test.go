package netswitch_test

import (
	"fmt"
	"net/netip"
	"testing"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
)

// BenchmarkForward carries frames from one machine's socket to another's, with
// both ports' addresses checked. Lost frames are not counted as carried.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{1514, 9014} {
		b.Run(fmt.Sprintf("%d", size), func(b *testing.B) {
			sw := newSwitch(b)
			mtu := size - frame.HeaderSize
			from := plug(b, sw, netswitch.PortConfig{Name: "a", MAC: macA, Addrs: []netip.Addr{addrA}, MTU: mtu})
			to := plug(b, sw, netswitch.PortConfig{Name: "b", MAC: macB, Addrs: []netip.Addr{addrB}, MTU: mtu})
			one := datagram(macA, macB, addrA, addrB, string(make([]byte, size-42)))
			const batch = 64
			var frames []byte
			for range batch {
				frames = frame.Append(frames, one)
			}
			received := make(chan int, 1)
			go func() {
				n := 0
				for {
					if _, err := to.frames.Next(); err != nil {
						received <- n
						return
					}
					n++
				}
			}()
			b.SetBytes(int64(size))
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				if _, err := from.Write(frames[:min(batch, b.N-i)*(frame.PrefixSize+size)]); err != nil {
					b.Fatal(err)
				}
			}
			_ = from.Close()
			<-from.port.Done() // all were read and forwarded
			lost := to.port.Stats().Dropped[netswitch.QueueFull]
			b.StopTimer()
			_ = to.Close()
			<-received
			b.ReportMetric(float64(lost)/float64(b.N)*100, "%lost")
			b.ReportMetric(float64(int64(b.N)-int64(lost))*float64(size)*8/b.Elapsed().Seconds()/1e9, "Gbit/s")
		})
	}
}
