// Package capture writes frames of a network as a pcapng file, as they pass and
// without holding them up.
package capture

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"goldsmith/internal/network/netswitch"
)

// queued is how many frames may wait for a slow reader; more are left out.
const queued = 8192

// Hub gives the frames of a network to whoever asks for them. Its zero value is
// ready.
type Hub struct {
	mu      sync.Mutex
	readers atomic.Pointer[[]*reader]
}

type reader struct {
	frames chan packet
	missed atomic.Uint64
}

type packet struct {
	port string
	at   time.Time
	data []byte
}

// Tap is the netswitch.Tap: it takes every frame once, where it enters the switch.
func (h *Hub) Tap(port string, dir netswitch.Direction, frame []byte) {
	readers := h.readers.Load()
	if readers == nil || dir != netswitch.FromPort {
		return
	}
	p := packet{port, time.Now(), append([]byte(nil), frame...)}
	for _, r := range *readers {
		select {
		case r.frames <- p:
		default:
			r.missed.Add(1)
		}
	}
}

// Stream writes frames to w until done is closed or w fails. It returns how many
// frames were left out because w was slow.
func (h *Hub) Stream(w io.Writer, done <-chan struct{}) (missed uint64, err error) {
	r := &reader{frames: make(chan packet, queued)}
	h.change(func(all []*reader) []*reader { return append(all, r) })
	defer h.change(func(all []*reader) []*reader {
		var rest []*reader
		for _, other := range all {
			if other != r {
				rest = append(rest, other)
			}
		}
		return rest
	})
	out := &writer{w: w, interfaces: map[string]uint32{}}
	if err := out.section(); err != nil {
		return 0, err
	}
	for {
		select {
		case p := <-r.frames:
			if err := out.packet(p); err != nil {
				return r.missed.Load(), err
			}
		case <-done:
			return r.missed.Load(), nil
		}
	}
}

func (h *Hub) change(f func([]*reader) []*reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*reader
	if old := h.readers.Load(); old != nil {
		all = append(all, *old...)
	}
	if all = f(all); len(all) == 0 {
		h.readers.Store(nil)
		return
	}
	h.readers.Store(&all)
}

// Block types and options of pcapng (draft-ietf-opsawg-pcapng sections 4.1 to 4.3).
const (
	sectionHeader     = 0x0A0D0D0A
	interfaceBlock    = 1
	enhancedPacket    = 6
	byteOrder         = 0x1A2B3C4D
	linkEthernet      = 1
	optionName        = 2
	snapLength        = 0 // no limit
	unknownSectionLen = 0xFFFFFFFFFFFFFFFF
)

// writer writes blocks.
type writer struct {
	w          io.Writer
	interfaces map[string]uint32
}

// block writes one block around body, which is padded to four bytes.
func (w *writer) block(kind uint32, body []byte) error {
	body = append(body, make([]byte, -len(body)&3)...)
	total := uint32(len(body) + 12)
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, total)
	b = append(b, body...)
	b = binary.LittleEndian.AppendUint32(b, total)
	_, err := w.w.Write(b)
	return err
}

func (w *writer) section() error {
	b := binary.LittleEndian.AppendUint32(nil, byteOrder)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, unknownSectionLen)
	return w.block(sectionHeader, b)
}

// packet writes one frame, behind the description of its port if that is new.
func (w *writer) packet(p packet) error {
	id, known := w.interfaces[p.port]
	if !known {
		id = uint32(len(w.interfaces))
		w.interfaces[p.port] = id
		b := binary.LittleEndian.AppendUint16(nil, linkEthernet)
		b = binary.LittleEndian.AppendUint16(b, 0)
		b = binary.LittleEndian.AppendUint32(b, snapLength)
		b = binary.LittleEndian.AppendUint16(b, optionName)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p.port)))
		b = append(b, p.port...)
		b = append(b, make([]byte, -len(p.port)&3)...)
		b = append(b, 0, 0, 0, 0) // end of options
		if err := w.block(interfaceBlock, b); err != nil {
			return err
		}
	}
	micros := uint64(p.at.UnixMicro())
	b := binary.LittleEndian.AppendUint32(nil, id)
	b = binary.LittleEndian.AppendUint32(b, uint32(micros>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(micros))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	return w.block(enhancedPacket, append(b, p.data...))
}
