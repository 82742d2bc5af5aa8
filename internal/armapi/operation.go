package armapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
)

// Operation states, as they are on the wire.
const (
	InProgress = "InProgress"
	Succeeded  = "Succeeded"
	Failed     = "Failed"
	Canceled   = "Canceled"
)

// Operation is a long-running operation as it is kept. It outlives the process
// that accepted it.
type Operation struct {
	ID       string          `json:"id"`       // GUID, the id of the request that began it
	Kind     string          `json:"kind"`     // which Work does it
	Resource string          `json:"resource"` // id of what it works on
	Caller   string          `json:"caller"`   // object id of who began it
	Input    json.RawMessage `json:"input,omitempty"`
	Status   string          `json:"status"`
	Start    time.Time       `json:"start"`
	End      time.Time       `json:"end,omitzero"`
	Fault    *Fault          `json:"fault,omitempty"`
	HTTP     int             `json:"http,omitempty"` // the status that the fault has as a direct answer
}

// Work does an operation. It runs again from the start when the process ended
// in the middle, so it must be repeatable. Its error fails the operation;
// arm.CodeCanceled cancels it.
type Work func(ctx context.Context, op Operation) error

// Collections of operations. An operation moves from one to the other when it
// ends; one that is in both has ended.
const (
	pendingCollection = "armapi.operations.pending"
	endedCollection   = "armapi.operations.ended"
)

// keepEnded is how long the outcome of an operation can be asked for.
const keepEnded = 24 * time.Hour

// maxWorking is how many operations are worked at once, beside those that somebody
// asks for. The works are waits, for runs and downloads that others do; the bound
// keeps what waits from taking memory.
const maxWorking = 128

// storeTimeout bounds the writes that must happen although a context has ended.
const storeTimeout = 10 * time.Second

// operations begins, works and remembers long-running operations.
type operations struct {
	pending, ended document.Store
	works          map[string]Work
	now            func() time.Time
	log            *slog.Logger

	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex // guards the fields below, and Add against Wait
	closed  bool
	swept   time.Time
	working int         // of maxWorking
	queue   []Operation // that wait for one of maxWorking to end, oldest first
	wg      sync.WaitGroup
}

func newOperations(c Config) *operations {
	ctx, cancel := context.WithCancel(context.Background())
	return &operations{
		pending: c.Documents(pendingCollection), ended: c.Documents(endedCollection),
		now: c.Now, log: c.Log, ctx: ctx, cancel: cancel,
	}
}

// Begin records an operation of kind on a resource and starts its work. Its id
// is the request's.
func (r *Request) Begin(ctx context.Context, kind, resource string, input any) (Operation, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return Operation{}, fmt.Errorf("encode the input of operation %s: %w", kind, err)
	}
	op := Operation{
		ID: r.RequestID, Kind: kind, Resource: resource, Caller: r.Caller.ObjectID, Input: raw,
		Status: InProgress, Start: r.api.ops.now().UTC(),
	}
	return op, r.api.ops.begin(ctx, op)
}

func (o *operations) begin(ctx context.Context, op Operation) error {
	if o.works[op.Kind] == nil {
		return arm.Errorf(arm.CodeInternal, "no provider works operations of kind %q", op.Kind)
	}
	if err := put(ctx, o.pending, op); err != nil {
		return fmt.Errorf("record operation %s: %w", op.ID, err)
	}
	o.start(op)
	o.sweep()
	return nil
}

// start runs the work, at once or when its turn comes, unless the service is about
// to stop; then the next Resume does.
func (o *operations) start(op Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.working >= maxWorking {
		o.queue = append(o.queue, op)
		return
	}
	o.working++
	o.spawnLocked(func(ctx context.Context) {
		for more := true; more; op, more = o.next() {
			o.work(ctx, op)
		}
	})
}

// next is the operation whose turn it is. Without one, or at the end of the
// service, a place becomes free.
func (o *operations) next() (op Operation, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.closed {
		o.working--
		return op, false
	}
	op, o.queue = o.queue[0], o.queue[1:]
	return op, true
}

// hasten starts the work of an operation that somebody asks for and whose turn has
// not come: it may be over long before those in front of it.
func (o *operations) hasten(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.queue, func(op Operation) bool { return op.ID == id })
	if i < 0 {
		return
	}
	op := o.queue[i]
	o.queue = slices.Delete(o.queue, i, i+1)
	o.spawnLocked(func(ctx context.Context) { o.work(ctx, op) })
}

func (o *operations) work(ctx context.Context, op Operation) {
	err := o.run(ctx, op)
	if ctx.Err() != nil && err != nil {
		return // not the work's failure: it is continued by the next process
	}
	o.finish(op, err)
}

func (o *operations) spawn(f func(context.Context)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spawnLocked(f)
}

func (o *operations) spawnLocked(f func(context.Context)) {
	if o.closed {
		return
	}
	o.wg.Go(func() { f(o.ctx) })
}

// run is the work, with a panic as an error.
func (o *operations) run(ctx context.Context, op Operation) (err error) {
	defer func() {
		if v := recover(); v != nil {
			o.log.Error("an operation ended in a panic", "operation", op.ID, "kind", op.Kind, "panic", v)
			err = arm.Errorf(arm.CodeInternal, "an internal error occurred; the service's log has it under the operation id %s", op.ID)
		}
	}()
	return o.works[op.Kind](ctx, op)
}

func (o *operations) finish(op Operation, err error) {
	op.Status, op.End = Succeeded, o.now().UTC()
	if err != nil {
		f := FaultOf(err)
		op.Status, op.Fault, op.HTTP = Failed, &f, statusOf(err)
		if arm.CodeOf(err) == arm.CodeCanceled {
			op.Status = Canceled
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), storeTimeout)
	defer cancel()
	if err := put(ctx, o.ended, op); err != nil {
		o.log.Error("the end of an operation was not recorded; it will be worked again", "operation", op.ID, "error", err)
		return
	}
	if err := o.pending.Delete(ctx, op.ID, document.Condition{}); err != nil {
		o.log.Error("an ended operation was not removed from the pending ones", "operation", op.ID, "error", err)
	}
}

func put(ctx context.Context, s document.Store, op Operation) error {
	body, err := json.Marshal(op)
	if err == nil {
		_, err = s.Put(ctx, op.ID, body, document.Condition{})
	}
	return err
}

// get finds an operation, whether it has ended or not.
func (o *operations) get(ctx context.Context, id string) (Operation, error) {
	var op Operation
	// An operation moves from pending to ended: asked for in the other order, it
	// could be missed in both.
	for _, s := range []document.Store{o.pending, o.ended} {
		rec, err := s.Get(ctx, id)
		if arm.IsCode(err, arm.CodeNotFound) {
			continue
		}
		if err != nil {
			return op, err
		}
		if err := json.Unmarshal(rec.Body, &op); err != nil {
			return op, arm.Errorf(arm.CodeCorrupt, "operation %s does not parse: %w", id, err)
		}
	}
	if op.ID == "" {
		return op, arm.Errorf(arm.CodeNotFound, "the operation '%s' was not found; outcomes are kept for %d hours", clip(id), int(keepEnded.Hours()))
	}
	return op, nil
}

// Operation finds a long-running operation by its id.
func (r *Request) Operation(ctx context.Context, id string) (Operation, error) {
	op, err := r.api.ops.get(ctx, id)
	if err != nil {
		return op, err
	}
	if op.Status == InProgress {
		r.api.ops.hasten(op.ID)
	}
	return op, r.api.ops.mayRead(ctx, r, op)
}

// resume starts again what did not end.
func (o *operations) resume(ctx context.Context) error {
	records, err := o.pending.List(ctx, "")
	if err != nil {
		return fmt.Errorf("list pending operations: %w", err)
	}
	for _, rec := range records {
		var op Operation
		if err := json.Unmarshal(rec.Body, &op); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "operation %s does not parse: %w", rec.Key, err)
		}
		if _, err := o.ended.Get(ctx, op.ID); err == nil {
			if err := o.pending.Delete(ctx, op.ID, document.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
				return err
			}
			continue
		} else if !arm.IsCode(err, arm.CodeNotFound) {
			return err
		}
		if o.works[op.Kind] == nil {
			o.finish(op, arm.Errorf(arm.CodeNotSupported, "this version of the service cannot continue operations of kind %q", op.Kind))
			continue
		}
		o.start(op)
	}
	return nil
}

func (o *operations) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.wg.Wait()
}

// Ids begin with the time in milliseconds, of which the first bucketDigits
// hexadecimal digits number buckets of 2^24 ms, 4.7 hours.
const (
	bucketDigits = 6
	bucketBits   = 48 - 4*bucketDigits
	sweepEvery   = time.Hour
	sweepBack    = 60 * 24 * time.Hour // how far back the first sweep looks
)

// sweep forgets operations that ended long ago. It looks once an hour at the
// buckets that have become old since the last time.
func (o *operations) sweep() {
	now := o.now()
	o.mu.Lock()
	from := o.swept
	due := now.Sub(from) >= sweepEvery
	if due {
		o.swept = now
	}
	o.mu.Unlock()
	if !due {
		return
	}
	if from.IsZero() || now.Sub(from) > sweepBack {
		from = now.Add(-sweepBack)
	}
	o.spawn(func(ctx context.Context) {
		if err := o.forget(ctx, from.Add(-keepEnded), now.Add(-keepEnded)); err != nil && ctx.Err() == nil {
			o.log.Error("old operations were not removed", "error", err)
		}
	})
}

// forget removes the ended operations of the buckets from one time to another.
func (o *operations) forget(ctx context.Context, from, to time.Time) error {
	for bucket := from.UnixMilli() >> bucketBits; bucket < to.UnixMilli()>>bucketBits; bucket++ {
		prefix := strings.Repeat("0", bucketDigits) + strconv.FormatInt(bucket, 16)
		old, err := o.ended.List(ctx, prefix[len(prefix)-bucketDigits:])
		if err != nil {
			return err
		}
		for _, rec := range old {
			if err := o.ended.Delete(ctx, rec.Key, document.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
				return errors.Join(err, ctx.Err())
			}
		}
	}
	return nil
}
