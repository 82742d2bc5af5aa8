package build

import (
	"context"
	"fmt"
	"slices"

	"goldsmith/internal/arm"
	"goldsmith/internal/image"
	"goldsmith/internal/image/structure"
	"goldsmith/internal/machine"
)

// checkStructure looks whether the captured disk can start and is whole. What
// was wrong with the source already is only reported: the build did not do it.
func (b *builder) checkStructure(ctx context.Context, base, result image.Digest) error {
	after, err := b.engine.structureOf(ctx, result, b.plan.Shape.Firmware)
	if err != nil {
		return fmt.Errorf("check the captured image: %w", err)
	}
	if after.OK() && len(after.Findings) == 0 {
		return nil
	}
	before, err := b.engine.structureOf(ctx, base, b.plan.Shape.Firmware)
	if err != nil {
		return fmt.Errorf("check the source image: %w", err)
	}
	for _, f := range after.Findings {
		if f.Severity == structure.Problem && !slices.Contains(before.Findings, f) {
			return arm.Errorf(arm.CodeMalformedImage, "the captured image is not sound: %s", f.Text)
		}
		b.warn("captured image: %s", f.Text)
	}
	return nil
}

// structureOf examines a stored image.
func (e *Engine) structureOf(ctx context.Context, digest image.Digest, firmware machine.Firmware) (*structure.Report, error) {
	img, err := e.images.OpenImage(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	return structure.Check(ctx, img, structure.Firmware(firmware))
}

// espType is the GPT type of an EFI system partition (UEFI specification, 5.3.3).
const espType = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
