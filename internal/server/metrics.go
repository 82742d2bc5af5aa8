package server

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// Metrics are what a service counts. Its Emit sees the events of every run.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	active    prometheus.Gauge
	runs      *prometheus.CounterVec
	phases    *prometheus.HistogramVec
	layers    *prometheus.CounterVec
	log       *slog.Logger

	mu      sync.Mutex
	current map[string]event.Phase // of runs that go on
}

// NewMetrics makes Metrics. The events of runs are logged to log.
func NewMetrics(log *slog.Logger) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), log: log, current: map[string]event.Phase{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "goldsmith_requests_total", Help: "Requests answered, by area, method and status.",
		}, []string{"area", "method", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "goldsmith_request_duration_seconds", Help: "How long requests took.", Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30},
		}, []string{"area"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "goldsmith_requests_active", Help: "Requests under way."}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "goldsmith_runs_finished_total", Help: "Runs that this service has finished, by state.",
		}, []string{"state"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "goldsmith_phase_duration_seconds", Help: "How long phases of runs took.", Buckets: []float64{.1, .5, 1, 5, 15, 60, 300, 1800, 7200},
		}, []string{"phase"}),
		layers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "goldsmith_step_cache_total", Help: "Steps of runs that were taken from the cache (hit) or executed (miss).",
		}, []string{"outcome"}),
	}
	m.registry.MustRegister(m.requests, m.durations, m.active, m.runs, m.phases, m.layers,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Emit implements event.Sink: it counts and logs what happens to runs.
func (m *Metrics) Emit(e event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	attrs := []any{"run", e.Run}
	if e.Err != nil {
		attrs = append(attrs, "error", e.Err.Message)
	}
	switch e.Kind {
	case event.RunStarted:
		m.current[e.Run] = event.PhaseSubmit
		m.log.Info("run started", append(attrs, "template", e.Target)...)
	case event.RunFinished:
		delete(m.current, e.Run)
		m.runs.WithLabelValues(e.State).Inc()
		m.log.Info("run finished", append(attrs, "state", e.State, "took", e.Elapsed.Round(time.Millisecond))...)
	case event.PhaseStarted:
		m.current[e.Run] = e.Phase
		m.log.Debug("phase started", append(attrs, "phase", e.Phase)...)
	case event.PhaseFinished:
		m.phases.WithLabelValues(string(e.Phase)).Observe(e.Elapsed.Seconds())
		m.log.Info("phase finished", append(attrs, "phase", e.Phase, "took", e.Elapsed.Round(time.Millisecond))...)
	case event.StepCached:
		m.layers.WithLabelValues("hit").Inc()
	case event.StepFinished:
		m.layers.WithLabelValues("miss").Inc()
	case event.Warning:
		m.log.Warn("run warning", append(attrs, "text", e.Text)...)
	}
}

// byPhase counts the runs that go on, by phase.
func (m *Metrics) byPhase() map[event.Phase]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[event.Phase]int{}
	for _, p := range m.current {
		out[p]++
	}
	return out
}

// gauges are read from the records when somebody asks.
type gauges struct {
	runs    run.Store
	metrics *Metrics
	data    string

	mu       sync.Mutex
	measured time.Time
	sizes    map[string]float64
}

var (
	stateDesc = prometheus.NewDesc("goldsmith_runs", "Runs that have not ended, by state; Queued is the queue.", []string{"state"}, nil)
	phaseDesc = prometheus.NewDesc("goldsmith_runs_by_phase", "Runs that go on, by phase.", []string{"phase"}, nil)
	sizeDesc  = prometheus.NewDesc("goldsmith_store_bytes", "Bytes on disk below the data directory, by part.", []string{"part"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	c <- stateDesc
	c <- phaseDesc
	c <- sizeDesc
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts := map[run.State]int{run.Queued: 0, run.Running: 0, run.Canceling: 0}
	list, err := g.runs.List(ctx, run.Filter{States: []run.State{run.Queued, run.Running, run.Canceling}})
	if err != nil {
		c <- prometheus.NewInvalidMetric(stateDesc, err)
		return
	}
	for _, r := range list {
		counts[r.State]++
	}
	for state, n := range counts {
		c <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(n), string(state))
	}
	for phase, n := range g.metrics.byPhase() {
		c <- prometheus.MustNewConstMetric(phaseDesc, prometheus.GaugeValue, float64(n), string(phase))
	}
	for part, size := range g.size() {
		c <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, size, part)
	}
}

// measureAgain is how old the sizes on disk may be: walking a large store takes
// time.
const measureAgain = 5 * time.Minute

// size is what the parts of the data directory take on disk.
func (g *gauges) size() map[string]float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sizes != nil && time.Since(g.measured) < measureAgain {
		return g.sizes
	}
	sizes := map[string]float64{"images": 0, "layers": 0, "disks": 0, "artifacts": 0, "blobs": 0, "runs": 0, "database": 0}
	_ = filepath.WalkDir(g.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go; what can be read counts
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(g.data, path)
		part, _, inside := strings.Cut(rel, string(filepath.Separator))
		if !inside && strings.HasPrefix(part, "goldsmith.db") {
			part = "database"
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if _, known := sizes[part]; known {
				sizes[part] += float64(st.Blocks) * 512
			}
		}
		return nil
	})
	g.sizes, g.measured = sizes, time.Now()
	return sizes
}

// operations serves health and metrics.
func (s *Server) operations() http.Handler {
	s.metrics.registry.MustRegister(&gauges{runs: s.db.Runs(), metrics: s.metrics, data: s.cfg.Data})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !s.working.Load() {
			answerText(w, http.StatusServiceUnavailable, "stopping or not started yet")
			return
		}
		if _, err := s.db.Settings(r.Context()); err != nil {
			answerText(w, http.StatusServiceUnavailable, "the database does not answer")
			return
		}
		answerText(w, http.StatusOK, "ready")
	})
	return mux
}

func answerText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client has gone
}
