// Package order is what the program that starts a proxy VM and the program in it
// say to each other, as JSON objects of one line each.
package order

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
)

// Port is the name of the virtio-serial port that carries it.
const Port = "org.goldsmith.helper.0"

// MaxLine is the longest line in bytes.
const MaxLine = 8 << 10

// Order makes a booted or restored machine a proxy.
type Order struct {
	Nonce   string         `json:"nonce"`   // given back with the answer
	Entropy []byte         `json:"entropy"` // for the kernel: a restored one knows what others know
	MAC     string         `json:"mac"`     // of the network card to wait for
	Address netip.Prefix   `json:"address"` // in its subnet
	Router  netip.Addr     `json:"router"`  // the way out
	Listen  uint16         `json:"listen"`  // TCP port
	Target  netip.AddrPort `json:"target"`  // where connections are forwarded to
	Probe   netip.Addr     `json:"probe"`   // whose connections are only accepted
}

// Report is what the machine says: that it has booted, or how an order went.
type Report struct {
	Nonce string `json:"nonce"` // "" when it has booted
	Error string `json:"error,omitempty"`
}

// Check says what of an order cannot be carried out.
func (o Order) Check() error {
	switch {
	case o.Nonce == "" || o.MAC == "":
		return fmt.Errorf("an order needs a nonce and a hardware address")
	case !o.Address.Addr().Is4() || !o.Router.Is4() || !o.Address.Masked().Contains(o.Router):
		return fmt.Errorf("router %v is not in the subnet of %v", o.Router, o.Address)
	case o.Listen == 0 || !o.Target.IsValid() || o.Target.Port() == 0:
		return fmt.Errorf("nothing is to be forwarded from port %d to %v", o.Listen, o.Target)
	}
	return nil
}

// Write sends one object.
func Write(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Lines reads lines of at most MaxLine bytes.
type Lines struct {
	r   io.Reader
	buf []byte
}

// NewLines reads from r.
func NewLines(r io.Reader) *Lines { return &Lines{r: r} }

// Next is the next line without its end. A line that is too long is an error.
func (l *Lines) Next() ([]byte, error) {
	for {
		for i, c := range l.buf {
			if c == '\n' {
				line := l.buf[:i:i]
				l.buf = l.buf[i+1:]
				return line, nil
			}
		}
		if len(l.buf) > MaxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", MaxLine)
		}
		chunk := make([]byte, 1024)
		n, err := l.r.Read(chunk)
		l.buf = append(l.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return nil, err
		}
	}
}
