package build

import (
	"context"
	"errors"
	"fmt"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/plan"
	"goldsmith/internal/run"
)

// maxDepth is how many layers a run goes on from: the cost of a read grows with
// every overlay that it has to pass.
const maxDepth = 8

// flattenBuffer is how much is copied at once, in bytes.
const flattenBuffer = 1 << 20

// flat is the layer that holds everything that the chain below top changed, in one
// overlay over the base. It is made when it is needed first. Its manifest is the
// union of theirs, so capture inherits what it would from the chain.
func (b *builder) flat(ctx context.Context, top layer.Record, key string, extents []disk.Extent) (layer.Record, error) {
	flatKey := plan.FlatKey(key)
	rec, err := b.engine.layers.ByKey(ctx, layer.Disk, flatKey)
	if err == nil {
		if err = b.use(ctx, rec); err == nil {
			return rec, nil
		}
		if ferr := b.engine.layers.Forget(ctx, rec.ID); ferr != nil && !arm.IsCode(ferr, arm.CodeNotFound) {
			return rec, errors.Join(err, ferr)
		}
	} else if !arm.IsCode(err, arm.CodeNotFound) {
		return rec, err
	}
	m, err := layer.ManifestOf(top)
	if err != nil {
		return rec, err
	}
	id := layer.NewID()
	if err := b.undo.push(ctx, run.Undo{Kind: undoDir, Target: b.engine.layerDir(id)}); err != nil {
		return rec, err
	}
	if err := b.engine.files.Create(id); err != nil {
		return rec, err
	}
	if err := b.writeFlat(ctx, top.ID, b.engine.files.Path(id, layer.DiskFile), m.DiskBytes, extents); err != nil {
		return rec, fmt.Errorf("flatten the layers: %w", err)
	}
	manifest := layer.Manifest{DiskBytes: m.DiskBytes, ChunkSize: image.ChunkSize, Changed: extents, Oldest: m.Oldest, Step: m.Step}
	if err := b.commit(ctx, layer.Record{ID: id, Key: flatKey, Kind: layer.Disk}, manifest); err != nil {
		return rec, err
	}
	return b.engine.layers.Get(ctx, id)
}

// writeFlat writes extents of the chain whose top is the layer id into one overlay
// over the base.
func (b *builder) writeFlat(ctx context.Context, id, path string, size int64, extents []disk.Extent) (err error) {
	chain, err := qcow2.OpenChain(ctx, b.engine.files.Path(id, layer.DiskFile), b.engine.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chain.Close()) }()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := qcow2.NewWriter(f, size, extents, &qcow2.Backing{Path: b.engine.baseRelative(b.plan.Base.Image), Format: "raw"})
	if err != nil {
		return err
	}
	buffer := make([]byte, flattenBuffer)
	for _, e := range extents {
		for at := e.Start; at < e.End(); {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			part := buffer[:min(int64(len(buffer)), e.End()-at)]
			if _, err := chain.ReadAt(part, at); err != nil {
				return err
			}
			if !disk.IsZero(part) { // zeros are what is not written
				if _, err := w.WriteAt(part, at); err != nil {
					return err
				}
			}
			at += int64(len(part))
		}
	}
	return nil
}
