package identity

import "time"

// Check says what is wrong with an issuer's configuration. It asks nobody.
func (i Issuer) Check() error {
	_, err := newExternal(i, time.Now)
	return err
}
