package blob

import (
	"context"
	"encoding/hex"
	"io"

	"goldsmith/internal/arm"
)

// Limits of the Blob service.
const (
	MaxBlockID = 64     // bytes
	MaxBlocks  = 50_000 // of one blob
)

// CodeInvalidBlockList is the code of a block list that names a block that is
// not there, or blocks whose ids differ in length.
const CodeInvalidBlockList arm.Code = "InvalidBlockList"

// Block is one block of a blob.
type Block struct {
	ID   string // as the client chose it, decoded
	Size int64  // bytes
}

// Source says where CommitBlocks looks for a block.
type Source int

// Sources of a block.
const (
	Latest      Source = iota // among the staged blocks, then in the blob
	Committed                 // in the blob as it is
	Uncommitted               // among the staged blocks
)

// BlockRef names a block of a block list.
type BlockRef struct {
	ID     string // decoded
	Source Source
}

// StageBlock writes a block that a later CommitBlocks can make part of the blob.
// A staged block of the same id is replaced. Until then it is not visible, and
// Collect removes it after a week.
func (a *Accounts) StageBlock(ctx context.Context, n Name, id string, content io.Reader) error {
	if err := n.Check(); err != nil {
		return err
	}
	if id == "" || len(id) > MaxBlockID {
		return arm.Errorf(arm.CodeValidationFailed, "a block id has 1 to %d bytes", MaxBlockID).At(n.Blob)
	}
	if err := a.wantContainer(ctx, n.Account, n.Container); err != nil {
		return err
	}
	_, err := a.writeSegment(ctx, n, hex.EncodeToString([]byte(id)), content)
	return err
}

// CommitBlocks makes a blob of the blocks in list, in its order, and drops all
// other staged blocks. The error is CodeInvalidBlockList when one is missing.
func (a *Accounts) CommitBlocks(ctx context.Context, n Name, list []BlockRef, o PutOptions) (Info, error) {
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	if err := checkType(n, &o.Properties); err != nil {
		return Info{}, err
	}
	bad := func(format string, args ...any) error {
		return arm.Errorf(CodeInvalidBlockList, "the block list "+format, args...).At(n.Blob)
	}
	if len(list) > MaxBlocks {
		return Info{}, bad("has %d blocks; a blob has %d at most", len(list), MaxBlocks)
	}
	return a.commit(ctx, n, o, false, func(old record, there []segment) (record, error) {
		committed, staged := sortBlocks(old, there)
		rec := record{Properties: o.Properties, Created: old.Created}
		for i, ref := range list {
			kind := hex.EncodeToString([]byte(ref.ID))
			seg, ok := staged[kind]
			if ref.Source == Committed || ref.Source == Latest && !ok {
				seg, ok = committed[kind]
			}
			switch {
			case !ok:
				return record{}, bad("names block %d, %.90q, which was not put", i+1, ref.ID)
			case len(ref.ID) != len(list[0].ID):
				return record{}, bad("has block ids of different lengths")
			}
			rec.Segments, rec.Size = append(rec.Segments, seg), rec.Size+seg.Size
		}
		return rec, nil
	})
}

// sortBlocks are the blocks that lie there, by kind: those of the blob, and the
// newest staged one of each.
func sortBlocks(old record, there []segment) (committed, staged map[string]segment) {
	committed, staged = map[string]segment{}, map[string]segment{}
	mine := make(map[string]bool, len(old.Segments))
	for _, s := range old.Segments {
		mine[s.Name] = true
		if !s.whole() {
			committed[s.kind()] = s
		}
	}
	for _, s := range there { // by name: of one kind the newest is the last
		if !mine[s.Name] && !s.whole() {
			staged[s.kind()] = s
		}
	}
	return committed, staged
}

// Blocks are the blocks of a blob in their order, and the staged ones by id. A
// blob that has only staged blocks does not exist for anything else; without any
// the error is CodeNotFound.
func (a *Accounts) Blocks(ctx context.Context, n Name) (committed, staged []Block, err error) {
	old, err := a.load(ctx, n)
	found := err == nil
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return nil, nil, err
	}
	there, listErr := a.segments(ctx, n)
	if listErr != nil {
		return nil, nil, listErr
	}
	block := func(s segment) Block {
		id, _ := hex.DecodeString(s.kind()) // made by StageBlock
		return Block{ID: string(id), Size: s.Size}
	}
	for _, s := range old.Segments {
		if !s.whole() {
			committed = append(committed, block(s))
		}
	}
	_, newest := sortBlocks(old, there)
	for _, s := range there {
		if newest[s.kind()].Name == s.Name {
			staged = append(staged, block(s))
		}
	}
	if !found && len(staged) == 0 {
		return nil, nil, err
	}
	return committed, staged, nil
}
