package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// record is what revalidates the content of a URI.
type record struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	validator
}

// validator tells two versions of a resource apart (RFC 9110, 8.8).
type validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// validatorOf is what a response can be revalidated by. A date is left out when
// the content could have changed again within the same second.
func validatorOf(h http.Header) validator {
	v := validator{ETag: h.Get("ETag"), LastModified: h.Get("Last-Modified")}
	modified, err := http.ParseTime(v.LastModified)
	sent, dateErr := http.ParseTime(h.Get("Date"))
	if err != nil || dateErr != nil || sent.Sub(modified) < time.Second {
		v.LastModified = ""
	}
	return v
}

func (v validator) isZero() bool { return v == validator{} }

// condition adds the request headers of RFC 9110, 13.1.
func (v validator) condition(h http.Header) {
	if v.ETag != "" {
		h.Set("If-None-Match", v.ETag)
		return
	}
	h.Set("If-Modified-Since", v.LastModified)
}

// ifRange is the value of an If-Range header, "" when v cannot serve as one: it
// wants a strong comparison.
func (v validator) ifRange() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

// recordPath names the record by the URI without its signature, so that a
// renewed signature still finds it.
func (s *Store) recordPath(loc location) string {
	sum := sha256.Sum256([]byte(withoutSecrets(loc.web)))
	return filepath.Join(s.dir, "http", hex.EncodeToString(sum[:])+".json")
}

// readRecord is ok when file holds a usable record.
func readRecord(file string) (r record, ok bool) {
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return record{}, false
	}
	return r, hexDigest.MatchString(r.SHA256) && !r.isZero()
}

// write keeps r, or forgets the URI when it cannot be revalidated.
func (r record) write(file string) error {
	if r.isZero() {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError(filepath.Dir(file), err)
		}
		return nil
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = renameio.WriteFile(file, b, 0o600)
	}
	return storageError(filepath.Dir(file), err)
}
