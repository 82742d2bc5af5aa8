// Package server is what goldsmith serve runs: it puts the tenant, the resource
// manager, the data of storage accounts and the build engine behind one HTTPS
// listener and a socket in the data directory, and stops them in good order.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/upkeep"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/build"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
	"goldsmith/internal/store"
)

// Limits of connections and requests.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	stopTimeout   = 10 * time.Second
)

// Config configures a Server.
type Config struct {
	Data     string // the data directory
	Settings Settings
	Engine   *build.Engine
	Version  string
	Log      *slog.Logger
	Metrics  *Metrics
	// Notice gets what a person must know after a first start.
	Notice io.Writer
}

// Server is a service on a data directory. Run it, then Close it.
type Server struct {
	cfg      Config
	settings Settings
	db       *store.DB
	lock     *flock.Flock
	tenant   *identity.Service
	access   *authorization.Authorizer
	api      *armapi.API
	listener net.Listener
	socket   net.Listener
	handler  http.Handler
	metrics  *Metrics
	accounts *account.Directory
	working  atomic.Bool // builds are taken, and requests answered
}

// New takes the data directory for this process, makes what a first start needs,
// and binds the listeners. The errors are arm.Error: CodeConflict when another
// service has the data directory, CodeUsage for an address that cannot be bound.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	s := &Server{cfg: cfg, db: cfg.Engine.Database(), metrics: cfg.Metrics}
	s.accounts = account.NewDirectory(s.db.Resources())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.lock = flock.New(filepath.Join(cfg.Data, "locks", "service"))
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "take the data directory: %w", err)
	}
	if !locked {
		return nil, arm.Errorf(arm.CodeConflict, "another goldsmith serve has the data directory %s", cfg.Data)
	}
	if err := upkeep.Sweep(s.scratch()); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "remove what the last service left: %w", err)
	}
	listen := cfg.Settings.Listen
	if listen == "" {
		listen = DefaultListen
	}
	if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", listen); err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "listen on %s: %w; another address is given by --listen", listen, err)
	}
	_, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "the listener's address: %w", err)
	}
	s.settings = cfg.Settings.withDefaults(port)
	if s.socket, err = listenSocket(ctx, cfg.Data); err != nil {
		return nil, err
	}
	settings, err := s.db.Settings(ctx)
	if err != nil {
		return nil, err
	}
	if s.tenant, err = identity.New(ctx, identity.Config{
		BaseURL: s.settings.URL, Aliases: s.aliases(port), Tenant: settings.TenantID, Domain: s.settings.Domain, Storage: s.settings.StorageSuffix,
		Principals: s.db.Documents(identity.Principals), Memberships: s.db.Documents(authorization.Memberships), Keys: s.db.Documents(identity.SigningKeys), Resources: s.db.Resources(),
		Issuers: s.settings.Issuers,
	}); err != nil {
		return nil, err
	}
	certificate, err := s.certificate()
	if err != nil {
		return nil, err
	}
	s.listener = tls.NewListener(s.listener, &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	})
	if err := s.firstStart(ctx, settings); err != nil {
		return nil, err
	}
	s.access = cfg.Engine.Access()
	cfg.Engine.Equip(s.settings.StorageSuffix, s.access, s.tenant)
	if err := s.compose(settings); err != nil {
		return nil, err
	}
	return s, nil
}

// scratch is where files are made on their way to a client.
func (s *Server) scratch() string { return filepath.Join(s.cfg.Data, "downloads") }

// aliases are the addresses that clients on this host may have used.
func (s *Server) aliases(port string) []string {
	out := []string{"https://localhost:" + port, "https://127.0.0.1:" + port}
	for _, n := range s.settings.Names {
		if _, _, err := net.SplitHostPort(n); err != nil {
			n = net.JoinHostPort(n, port)
		}
		out = append(out, "https://"+n)
	}
	return out
}

func (s *Server) certificate() (tls.Certificate, error) {
	if s.settings.Certificate == "" {
		return ownCertificate(s.cfg.Data, certificateNames(s.settings), time.Now())
	}
	c, err := tls.LoadX509KeyPair(s.settings.Certificate, s.settings.Key)
	if err != nil {
		return c, arm.Errorf(arm.CodeUsage, "read the certificate: %w", err)
	}
	return c, nil
}

// URL is what clients reach the service as.
func (s *Server) URL() string { return s.settings.URL }

// Address is where the service listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run serves until ctx ends. Requests under way then get ten seconds to finish,
// and builds are undone and left for the next start.
func (s *Server) Run(ctx context.Context) error {
	if err := s.api.Resume(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("take up operations again: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Requests outlive the signal to stop: they are given time.
	base := context.WithoutCancel(ctx)
	public := s.httpServer(base, s.handler)
	local := s.httpServer(base, s.handler)
	local.ConnContext = asOwner
	var group sync.WaitGroup
	errs := make(chan error, 3)
	serve := func(what string, f func() error) {
		group.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				errs <- fmt.Errorf("%s: %w", what, err)
				cancel(err)
			}
		})
	}
	serve("the listener", func() error { return public.Serve(s.listener) })
	serve("the socket", func() error { return local.Serve(s.socket) })
	serve("the builds", func() error {
		err := s.work(ctx)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // stopped before it had begun
		}
		return err
	})
	s.working.Store(true)
	s.cfg.Log.Info("serving", "url", s.settings.URL, "address", s.Address(), "version", s.cfg.Version, "slots", s.settings.Slots)
	fmt.Fprintf(s.cfg.Notice, "serving %s\n", s.settings.URL)
	<-ctx.Done()
	s.working.Store(false)
	s.cfg.Log.Info("stopping")
	stop, done := context.WithTimeout(base, stopTimeout)
	defer done()
	for _, h := range []*http.Server{public, local} {
		if err := h.Shutdown(stop); err != nil {
			s.cfg.Log.Warn("requests were cut off", "error", err)
			_ = h.Close() // ends what is left
		}
	}
	group.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	s.cfg.Log.Info("stopped")
	return errors.Join(all...)
}

func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, BaseContext: func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), // broken handshakes and the like
	}
}

// Close gives the data directory back.
func (s *Server) Close() error {
	var errs []error
	if s.api != nil {
		s.api.Close()
	}
	for _, l := range []net.Listener{s.listener, s.socket} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.access != nil { // the engine's, which goes on
		ctx, done := context.WithTimeout(context.Background(), stopTimeout)
		errs = append(errs, s.access.Flush(ctx))
		done()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// compose puts the handlers together.
func (s *Server) compose(settings store.Settings) error {
	management := s.tenant.Management()
	var err error
	s.api, err = armapi.New(armapi.Config{
		Subscription: settings.SubscriptionID, Tenant: settings.TenantID, Resources: s.db.Resources(), Documents: s.db.Documents,
		Authority: s.settings.URL + "/" + settings.TenantID, Log: s.cfg.Log, Providers: s.providers(settings),
		Authenticate: func(ctx context.Context, r *http.Request) (armapi.Caller, error) {
			if isOwner(ctx) {
				return ownerCaller(settings.TenantID), nil
			}
			c, err := management.Authenticate(ctx, r)
			return armapi.Caller(c), err
		},
		Authorize: func(ctx context.Context, a armapi.Access) (bool, error) {
			if isOwner(ctx) {
				return true, nil // whoever owns the data directory can change anything in it
			}
			return s.authorize(ctx, a)
		},
	})
	if err != nil {
		return err
	}
	s.handler = s.observe(map[string]http.Handler{
		areaOperations: slowClients(s.operations(), 0),
		areaSignIn:     slowClients(s.tenant.Handler(), 0),
		areaStorage:    slowClients(s.storageHandler(settings), leastRate),
		areaManagement: slowClients(s.api, 0),
	})
	return nil
}

// authorize decides about a request by the stored roles. What a list shows is not
// audited element by element.
func (s *Server) authorize(ctx context.Context, a armapi.Access) (bool, error) {
	if a.Quiet {
		policy, err := s.access.Policy(ctx)
		if err != nil {
			return false, err
		}
		return policy.Check(rbac.Request{
			Principal: a.Caller.ObjectID, Groups: a.Caller.Groups, Action: a.Action, Scope: a.Scope, Data: a.Data,
		}).Allowed, nil
	}
	d, err := s.access.Check(ctx, authorization.Request{
		Principal: a.Caller.ObjectID, Groups: a.Caller.Groups, Action: a.Action, Scope: a.Scope, Data: a.Data, Why: "request",
	})
	return d.Allowed, err
}
