package network_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"goldsmith/internal/network"
)

// BenchmarkTCP carries bytes of one connection between a guest and an outside
// server, by two netstacks, the switch and the gateway, all in this process.
func BenchmarkTCP(b *testing.B) {
	const chunk = 1 << 20
	for _, mtu := range []int{1500, 9000} {
		for _, direction := range []string{"upload", "download"} {
			b.Run(fmt.Sprintf("%s/mtu=%d", direction, mtu), func(b *testing.B) {
				data := make([]byte, chunk)
				var world outside
				done := make(chan int64, 1)
				world.add("tcp 203.0.113.10:80", serve(b, func(c net.Conn) {
					if direction == "upload" {
						n, _ := io.Copy(io.Discard, c)
						done <- n
						return
					}
					for range b.N {
						if _, err := c.Write(data); err != nil {
							return
						}
					}
				}))
				g := plug(b, newNetwork(b, network.Config{Dial: world.dial, MTU: mtu}))
				c, err := g.Dial(testContext(b), "tcp", "203.0.113.10:80")
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				b.SetBytes(chunk)
				b.ResetTimer()
				var moved int64
				if direction == "upload" {
					for range b.N {
						if _, err := c.Write(data); err != nil {
							b.Fatal(err)
						}
					}
					_ = c.Close()
					moved = <-done
				} else {
					moved, _ = io.Copy(io.Discard, c)
				}
				if moved != int64(b.N)*chunk {
					b.Fatalf("%d bytes arrived of %d", moved, int64(b.N)*chunk)
				}
				b.ReportMetric(float64(moved)*8/b.Elapsed().Seconds()/1e9, "Gbit/s")
			})
		}
	}
}
