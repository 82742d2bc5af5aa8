package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"goldsmith/internal/arm"
)

// Lifetimes of certificates. A server's is made anew at a start when less than
// renewBefore is left of it.
const (
	authorityLifetime   = 10 * 365 * 24 * time.Hour
	certificateLifetime = 365 * 24 * time.Hour
	renewBefore         = 60 * 24 * time.Hour
)

// Files of the service's own certificate authority, below the data directory.
const (
	authorityFile = "tls/ca.pem"
	authorityKey  = "tls/ca-key.pem"
	serverFile    = "tls/server.pem"
	serverKey     = "tls/server-key.pem"
)

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// ownCertificate is the certificate that the service's own authority gives to
// names; both are made where they are missing or do not fit any more.
func ownCertificate(dir string, names []string, now time.Time) (tls.Certificate, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o700); err != nil {
		return tls.Certificate{}, arm.Errorf(arm.CodeUsage, "make the directory of certificates: %w", err)
	}
	authority, err := readPair(dir, authorityFile, authorityKey)
	if os.IsNotExist(err) {
		authority, err = makePair(dir, authorityFile, authorityKey, &x509.Certificate{
			Subject: pkix.Name{CommonName: "Goldsmith certificate authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(authorityLifetime),
		}, nil)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	server, err := readPair(dir, serverFile, serverKey)
	if os.IsNotExist(err) || err == nil && !fits(server.cert, authority.cert, names, now) {
		template := &x509.Certificate{
			Subject:  pkix.Name{CommonName: names[0]},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLifetime),
		}
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, n)
			}
		}
		server, err = makePair(dir, serverFile, serverKey, template, &authority)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{server.cert.Raw, authority.cert.Raw}, PrivateKey: server.key, Leaf: server.cert}, nil
}

// fits reports whether a server's certificate is good for names for a while.
func fits(cert, authority *x509.Certificate, names []string, now time.Time) bool {
	if cert.CheckSignatureFrom(authority) != nil || now.Add(renewBefore).After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return false
	}
	var have []string
	have = append(have, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		have = append(have, ip.String())
	}
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(have, n) })
}

// makePair makes a key and a certificate signed by authority, or by itself.
func makePair(dir, certFile, keyFile string, template *x509.Certificate, authority *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeInternal, "make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeInternal, "make a serial number: %w", err)
	}
	template.SerialNumber = serial
	parent := pair{cert: template, key: key}
	if authority != nil {
		parent = *authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeInternal, "make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeInternal, "encode a key: %w", err)
	}
	// The key first: a certificate without its key would be kept for good.
	for _, f := range []struct {
		path, kind string
		der        []byte
		mode       os.FileMode
	}{{keyFile, "PRIVATE KEY", pkcs8, 0o600}, {certFile, "CERTIFICATE", der, 0o644}} {
		body := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := renameio.WriteFile(filepath.Join(dir, f.path), body, f.mode); err != nil {
			return pair{}, arm.Errorf(arm.CodeInternal, "keep a certificate: %w", err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeInternal, "read a certificate back: %w", err)
	}
	return pair{cert, key}, nil
}

// readPair reads a certificate and its key. The error is os.IsNotExist when the
// certificate is not there.
func readPair(dir, certFile, keyFile string) (pair, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return pair{}, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeCorrupt, "the certificate %s has no key: %v", certFile, err)
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return pair{}, arm.Errorf(arm.CodeCorrupt, "%s and %s do not belong together: %w", certFile, keyFile, err)
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return pair{}, arm.Errorf(arm.CodeCorrupt, "the key %s cannot sign", keyFile)
	}
	return pair{c.Leaf, key}, nil
}

// certificateNames are the names that the service's certificate must have.
func certificateNames(s Settings) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	add := func(n string) {
		if host, _, err := net.SplitHostPort(n); err == nil {
			n = host
		}
		if n = strings.Trim(n, "[]"); n != "" && n != "0.0.0.0" && n != "::" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	add(strings.TrimPrefix(s.URL, "https://"))
	add(s.Listen)
	for _, n := range s.Names {
		add(n)
	}
	suffix := s.StorageSuffix
	if host, _, err := net.SplitHostPort(suffix); err == nil {
		suffix = host
	}
	add("*.blob." + suffix)
	return names
}
