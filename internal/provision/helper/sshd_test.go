package helper

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1201 1 ffff8880 100 0 0 10 0
   1: 0400000A:0016 0100000A:C350 01 00000000:00000000 02:000A7214 00000000     0        0 1300 2 ffff8881 20 4 30 10 -1
   2: 00000000:1600 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1400 1 ffff8882 100 0 0 10 0
   3: short line
   4: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1202 1 ffff8883
`
	got, err := parseListeners(strings.NewReader(table), 22)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1201", "1202"}, got); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}

// A socket that is there already does not count when another one is waited for.
func TestWaitListeners(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	if err := waitListeners(t.Context(), port, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	before, err := listeners(port)
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*listenLook)
	defer cancel()
	if err := waitListeners(ctx, port, func(inode string) bool { return inode != before[0] }); err == nil {
		t.Error("the old socket was taken for a new one")
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- waitListeners(ctx, port, func(inode string) bool { return inode != before[0] })
	}()
	first.Close()
	again, err := net.Listen("tcp", first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
