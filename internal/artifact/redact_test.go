package artifact

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/x.sh":                         "https://a.example/x.sh",
		"https://a.example/x.sh?sv=2020&sig=abc%2Bdef":   "https://a.example/x.sh?sv=2020&sig=REDACTED",
		"https://a.example/x?SIG=abc&id=5":               "https://a.example/x?SIG=REDACTED&id=5",
		"https://a.example/x?s%69g=abc":                  "https://a.example/x?s%69g=REDACTED",
		"https://user:pass@a.example/x":                  "https://a.example/x",
		"https://a.example/x?X-Amz-Signature=1&b=2":      "https://a.example/x?X-Amz-Signature=REDACTED&b=2",
		"https://a.example/x#access_token=abc":           "https://a.example/x",
		"/home/me/my file.sh":                            "/home/me/my file.sh",
		"scripts/a.sh":                                   "scripts/a.sh",
		"http://a b/?sig=abc":                            "http://a b/?sig=REDACTED",
		"https://a.example/%zz?sig=abc":                  "https://a.example/%zz?sig=REDACTED",
		"https://u:p@[bad/?token=x":                      "https://[bad/?token=REDACTED",
		"https://a.example/x?a=1;sig=abc":                "https://a.example/x?a=1&sig=REDACTED",
		"opaque:a?sig=abc":                               "opaque:a?sig=REDACTED",
		"https://acc.blob.core.windows.net/c/b?sp=r&se=": "https://acc.blob.core.windows.net/c/b?sp=r&se=",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRedactNeverShowsSecrets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[A-Za-z0-9%+/]{12,24}zqzq`).Draw(t, "secret")
		name := rapid.SampledFrom([]string{"sig", "Sig", "token", "X-Amz-Security-Token", "password", "api_key"}).Draw(t, "name")
		tail := rapid.String().Draw(t, "tail")
		for _, uri := range []string{
			"https://h/p?" + name + "=" + secret + "&" + tail,
			"https://h/p?a=b&" + name + "=" + secret,
			"https://me:" + strings.ReplaceAll(secret, "/", "") + "@h/p",
		} {
			if got := Redact(uri); strings.Contains(got, "zqzq") {
				t.Fatalf("Redact(%q) = %q", uri, got)
			}
		}
	})
}

func TestCauseScrubs(t *testing.T) {
	inner := errors.New(`failed to parse Location header "https://u:p@h/%zz?sig=abc": no`)
	err := cause(&url.Error{Op: "Get", URL: "https://h/?sig=abc", Err: inner})
	if strings.Contains(err.Error(), "abc") || strings.Contains(err.Error(), "u:p") {
		t.Errorf("%q shows a secret", err)
	}
	if !errors.Is(err, inner) {
		t.Error("the cause is lost")
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https://a.example/x?sig=SECRETVALUE")
	f.Add("https://u:SECRETVALUE@h/")
	f.Fuzz(func(t *testing.T, in string) {
		if u, err := url.Parse(in); err == nil && u.User != nil {
			if p, ok := u.User.Password(); ok && len(p) > 3 && u.Host != "" {
				if again, err := url.Parse(Redact(in)); err == nil && again.User != nil {
					t.Errorf("Redact(%q) = %q keeps the user", in, Redact(in))
				}
			}
		}
	})
}
