package memory

import (
	"context"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/layer"
)

type layerIndex struct{ db *DB }

func (s layerIndex) Insert(ctx context.Context, r layer.Record) (layer.Record, bool, error) {
	if err := layer.Check(r); err != nil {
		return layer.Record{}, false, err
	}
	defer s.db.lock()()
	if winner, ok := s.byKey(r.Kind, r.Key); ok {
		return winner, false, nil
	}
	if _, ok := s.db.layers[r.Parent]; r.Parent != "" && !ok {
		return layer.Record{}, false, noLayer(r.Parent)
	}
	if _, taken := s.db.layers[r.ID]; taken {
		return layer.Record{}, false, layer.ErrTaken(r.ID)
	}
	r.CreatedAt, r.LastUsedAt = now(), now()
	s.db.layers[r.ID] = cloneLayer(r)
	return cloneLayer(r), true, ctx.Err()
}

func (s layerIndex) ByKey(ctx context.Context, kind layer.Kind, key string) (layer.Record, error) {
	defer s.db.lock()()
	r, ok := s.byKey(kind, key)
	if !ok {
		return layer.Record{}, noLayer(key)
	}
	return r, ctx.Err()
}

func (s layerIndex) byKey(kind layer.Kind, key string) (layer.Record, bool) {
	for _, r := range s.db.layers {
		if key != "" && r.Kind == kind && r.Key == key {
			return cloneLayer(r), true
		}
	}
	return layer.Record{}, false
}

func (s layerIndex) Get(ctx context.Context, id string) (layer.Record, error) {
	defer s.db.lock()()
	r, ok := s.db.layers[id]
	if !ok {
		return layer.Record{}, noLayer(id)
	}
	return cloneLayer(r), ctx.Err()
}

func (s layerIndex) Touch(ctx context.Context, id string) error {
	defer s.db.lock()()
	r, ok := s.db.layers[id]
	if !ok {
		return noLayer(id)
	}
	r.LastUsedAt = now()
	s.db.layers[id] = r
	return ctx.Err()
}

func (s layerIndex) Forget(ctx context.Context, id string) error {
	defer s.db.lock()()
	r, ok := s.db.layers[id]
	if !ok {
		return noLayer(id)
	}
	r.Key = ""
	s.db.layers[id] = r
	return ctx.Err()
}

func (s layerIndex) List(ctx context.Context, f layer.Filter) ([]layer.Record, error) {
	defer s.db.lock()()
	all := sorted(s.db.layers, func(r layer.Record) bool {
		return (f.Kind == "" || f.Kind == r.Kind) && (f.Base == "" || f.Base == r.Base) && (f.Run == "" || f.Run == r.Run) &&
			(f.UnusedSince.IsZero() || r.LastUsedAt.UnixMilli() < f.UnusedSince.UnixMilli()) &&
			(!f.Collectables || s.held(r.ID) == nil)
	}, func(a, b layer.Record) int {
		if c := a.LastUsedAt.Compare(b.LastUsedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	for i := range all {
		all[i] = cloneLayer(all[i])
	}
	return all, ctx.Err()
}

func (s layerIndex) Delete(ctx context.Context, id string) error {
	defer s.db.lock()()
	if _, ok := s.db.layers[id]; !ok {
		return noLayer(id)
	}
	if err := s.held(id); err != nil {
		return err
	}
	delete(s.db.layers, id)
	return ctx.Err()
}

// held is the reason why a layer cannot be deleted now.
func (s layerIndex) held(id string) error {
	var above, pinned []string
	for _, r := range s.db.layers {
		if r.Parent == id {
			above = append(above, r.ID)
		}
	}
	for p := range s.db.pins {
		if p.layer == id {
			pinned = append(pinned, p.run)
		}
	}
	if len(above)+len(pinned) == 0 {
		return nil
	}
	return layer.ErrInUse(id, above, pinned)
}

func (s layerIndex) Pin(ctx context.Context, runID, layerID string) error {
	defer s.db.lock()()
	if _, ok := s.db.layers[layerID]; !ok {
		return noLayer(layerID)
	}
	s.db.pins[pin{strings.ToLower(runID), layerID}] = true
	return ctx.Err()
}

func (s layerIndex) Unpin(ctx context.Context, runID, layerID string) error {
	defer s.db.lock()()
	for p := range s.db.pins {
		if p.run == strings.ToLower(runID) && (layerID == "" || p.layer == layerID) {
			delete(s.db.pins, p)
		}
	}
	return ctx.Err()
}

func (s layerIndex) PinsOf(ctx context.Context, runID string) ([]string, error) {
	defer s.db.lock()()
	var ids []string
	for p := range s.db.pins {
		if p.run == strings.ToLower(runID) {
			ids = append(ids, p.layer)
		}
	}
	slices.Sort(ids)
	return ids, ctx.Err()
}

func cloneLayer(r layer.Record) layer.Record {
	r.Manifest = slices.Clone(r.Manifest)
	return r
}

func noLayer(id string) error {
	return arm.Errorf(arm.CodeNotFound, "the layer does not exist").At(id)
}
