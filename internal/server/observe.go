package server

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// observe sends every request to the part of the service that it is for, and
// counts and logs it. Query strings stay out of the log:
// those of storage accounts hold signatures.
func (s *Server) observe(parts map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := uuid.Must(uuid.NewV7()).String()
		w.Header().Set("x-ms-request-id", id)
		tally := &tallyWriter{ResponseWriter: w}
		area := s.area(r)
		s.metrics.active.Inc()
		defer func() {
			elapsed := time.Since(start)
			s.metrics.active.Dec()
			if set := w.Header().Get("x-ms-request-id"); set != "" {
				id = set
			}
			s.metrics.requests.WithLabelValues(area, method(r.Method), class(tally.status)).Inc()
			s.metrics.durations.WithLabelValues(area).Observe(elapsed.Seconds())
			level := slog.LevelInfo
			if area == areaOperations {
				level = slog.LevelDebug // asked for every few seconds
			}
			s.cfg.Log.LogAttrs(r.Context(), level, "request",
				slog.String("request", id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.String("version", r.URL.Query().Get("api-version")), slog.Int("status", tally.status),
				slog.Int64("bytes", tally.bytes), slog.Duration("took", elapsed.Round(time.Microsecond)),
				slog.String("client", clientOf(r)), slog.String("client_request", r.Header.Get("x-ms-client-request-id")))
		}()
		parts[area].ServeHTTP(tally, r)
	})
}

// clientOf is the first word of the User-Agent, and whether the owner asks.
func clientOf(r *http.Request) string {
	agent, _, _ := strings.Cut(r.UserAgent(), " ")
	if isOwner(r.Context()) {
		return "owner " + agent
	}
	return agent
}

// method is a request's method as a label: hostile clients make up others.
func method(m string) string {
	switch m {
	case "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS":
		return m
	}
	return "other"
}

// class is a status as a label.
func class(status int) string {
	if status == 0 {
		status = http.StatusOK
	}
	return itoa(status)
}

// Areas of requests, as labels.
const (
	areaOperations = "operations"
	areaSignIn     = "sign-in"
	areaManagement = "management"
	areaStorage    = "storage"
)

// area is the part of the service that a request is for.
func (s *Server) area(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	switch {
	case s.accountHost(r):
		return areaStorage
	case first == "healthz" || first == "readyz" || first == "metrics":
		return areaOperations
	case s.tenant.Serves(r.URL.Path):
		return areaSignIn
	case s.accountPath(r):
		return areaStorage
	}
	return areaManagement
}

// tallyWriter counts what is written.
type tallyWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (t *tallyWriter) WriteHeader(status int) {
	if t.status == 0 || t.status < 200 {
		t.status = status
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tallyWriter) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	n, err := t.ResponseWriter.Write(p)
	t.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (t *tallyWriter) Flush() { _ = http.NewResponseController(t.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (t *tallyWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Logger makes the service's log as settings say.
func (l LogSettings) Logger(w interface{ Write([]byte) (int, error) }) (*slog.Logger, error) {
	var level slog.Level
	if l.Level != "" {
		if err := level.UnmarshalText([]byte(l.Level)); err != nil {
			return nil, arm.Errorf(arm.CodeUsage, "the log level %q is not debug, info, warn or error", l.Level)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, arm.Errorf(arm.CodeUsage, "the log format %q is not text or json", l.Format)
}
