// Command init is the only program of a stand-in for a build VM; see standin.
package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/machine/cloudkernel/userland"
	"goldsmith/internal/network/networktest/standin"
)

func main() {
	err := run()
	fmt.Println("standin:", err)
	userland.PowerOff()
}

func run() error {
	kernel, err := userland.Start()
	if err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	params := map[string]string{}
	for _, field := range strings.Fields(string(line)) {
		if name, value, ok := strings.Cut(field, "="); ok {
			params[name] = value
		}
	}
	card, err := kernel.AwaitCard(params[standin.ParamMAC])
	if err != nil {
		return err
	}
	address, err := netip.ParsePrefix(params[standin.ParamAddress])
	if err != nil {
		return err
	}
	router, err := netip.ParseAddr(params[standin.ParamRouter])
	if err != nil {
		return err
	}
	if err := userland.Configure(card, address, router); err != nil {
		return err
	}
	if err := move(params); err != nil {
		return err
	}
	if params[standin.ParamListen] == "" {
		return io.EOF
	}
	return answer(params[standin.ParamListen], params[standin.ParamKey])
}

// move sends and receives bytes and says how long that took.
func move(params map[string]string) error {
	bytes, err := strconv.ParseInt(params[standin.ParamBytes], 10, 64)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		to   string
		copy func(c net.Conn) (int64, error)
	}{
		{params[standin.ParamSend], func(c net.Conn) (int64, error) {
			n, err := io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(zeros{}, bytes), make([]byte, 256<<10))
			if err != nil {
				return n, err
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				return n, err
			}
			_, err = io.ReadFull(c, make([]byte, 1)) // everything has arrived
			return n, err
		}},
		{params[standin.ParamReceive], func(c net.Conn) (int64, error) {
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		}},
	} {
		if way.to == "" {
			continue
		}
		c, err := net.Dial("tcp4", way.to)
		if err != nil {
			return err
		}
		start := time.Now()
		n, err := way.copy(c)
		took := time.Since(start)
		_ = c.Close()
		if err != nil || n != bytes {
			return fmt.Errorf("%d bytes of %d moved: %w", n, bytes, err)
		}
		fmt.Printf("%s%d\n", standin.Moved, took.Nanoseconds())
	}
	return nil
}

// zeros are as many as anybody wants.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// answer answers each TLS connection with what it says.
func answer(port, key string) error {
	der, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		return err
	}
	private, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return err
	}
	certificate, err := selfSigned(private)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp4", ":"+port, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	fmt.Println(standin.Ready)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func selfSigned(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
