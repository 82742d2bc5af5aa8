// Package talk is how the conformance suite speaks with its guests, real and
// fake: on the helper's port, a line of words each way.
package talk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Requests.
const (
	Boot      = "boot"       // the random word that the guest made when it booted
	WriteAt   = "write"      // OFFSET WORD: put WORD on the disk, durably
	ReadAt    = "read"       // OFFSET: the word there
	DiskSize  = "size"       // the disk's size in bytes
	AwaitSize = "await-size" // BYTES: wait until the disk has that size or more; its size
	Disks     = "disks"      // the number of disks
	AwaitNIC  = "await-nic"  // wait for a network card; its MAC address
	NoNIC     = "await-none" // wait until there is none
	SendNIC   = "send"       // WORD: send a broadcast frame of type FrameType with WORD
	PowerOff  = "poweroff"   // power off; there is no reply
)

// First words of a reply.
const (
	Done   = "ok"
	Failed = "error"
)

// FrameType is the Ethernet type of the frames that SendNIC sends, one of those
// left for experiments.
const FrameType = 0x88b5

// Answer serves requests on port until it ends. Each goes to do, whose result or
// error is the reply.
func Answer(port io.ReadWriter, do func(request string, args []string) (string, error)) error {
	lines := bufio.NewScanner(port)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		reply, err := do(words[0], words[1:])
		line := Done + " " + reply
		if err != nil {
			line = Failed + " " + strings.Join(strings.Fields(err.Error()), " ")
		}
		if _, err := io.WriteString(port, line+"\n"); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Talker is the host's side of Answer.
type Talker struct {
	port  io.ReadWriteCloser
	lines *bufio.Reader
}

// New talks on port, which must take deadlines.
func New(port io.ReadWriteCloser) *Talker {
	return &Talker{port: port, lines: bufio.NewReader(port)}
}

// Ask sends one request and returns the reply without its first word. A guest
// that is still booting answers when it is up. After an error the line is of no
// more use.
func (t *Talker) Ask(ctx context.Context, request ...any) (string, error) {
	if conn, ok := t.port.(interface{ SetDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if _, err := io.WriteString(t.port, strings.TrimSpace(fmt.Sprintln(request...))+"\n"); err != nil {
		return "", fmt.Errorf("%v: %w", request[0], err)
	}
	line, err := t.lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%v: %w", request[0], err)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if first != Done {
		return "", fmt.Errorf("%v: the guest says %q", request[0], line)
	}
	return rest, nil
}
