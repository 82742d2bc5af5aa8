package identity

import (
	"context"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/network/imds"
)

// managedLifetime is how long a token of a build machine's identity is valid.
const managedLifetime = time.Hour

// IdentityToken issues a token of the managed identity with resource id id. It
// implements imds.Tokens. The error is arm.CodeNotFound when there is none.
func (s *Service) IdentityToken(ctx context.Context, id, audience string) (imds.Token, error) {
	all, err := s.directory.managed(ctx)
	if err != nil {
		return imds.Token{}, err
	}
	for _, p := range all {
		if !strings.EqualFold(p.Origin, id) {
			continue
		}
		token, err := s.issue(ctx, p, audienceOf(audience), "", "", managedLifetime)
		return imds.Token{Access: token, Expires: s.now().Add(managedLifetime)}, err
	}
	return imds.Token{}, arm.Errorf(arm.CodeNotFound, "there is no such managed identity").At(id)
}
