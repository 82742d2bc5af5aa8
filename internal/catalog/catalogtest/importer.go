package catalogtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/catalog"
	"goldsmith/internal/event"
)

// Magic is how every disk that Importer takes begins.
const Magic = "DISK"

// ESP in a disk's content stands for an EFI system partition.
const ESP = "EFI PART"

// Importer is an image store in memory. Files without Magic are malformed disk
// images to it.
type Importer struct {
	mu      sync.Mutex
	images  map[string][]byte
	imports int
	// Before, unless nil, runs first in every Import; its error is Import's.
	Before func(ctx context.Context) error
}

// Import stores the file's content.
func (i *Importer) Import(ctx context.Context, file string, sink event.Sink) (string, catalog.DiskInfo, error) {
	if i.Before != nil {
		if err := i.Before(ctx); err != nil {
			return "", catalog.DiskInfo{}, err
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", catalog.DiskInfo{}, arm.Errorf(arm.CodeInternal, "the disk cannot be read: %w", err)
	}
	if !bytes.HasPrefix(content, []byte(Magic)) {
		return "", catalog.DiskInfo{}, arm.Errorf(arm.CodeMalformedImage, "the file is not a disk image").At(file)
	}
	sink.Emit(event.Event{Kind: event.Progress, Text: "importing", Done: int64(len(content)), Total: int64(len(content))})
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.images == nil {
		i.images = map[string][]byte{}
	}
	i.images[digest] = content
	i.imports++
	return digest, catalog.DiskInfo{VirtualSize: int64(len(content)), HasESP: bytes.Contains(content, []byte(ESP)), Format: "raw"}, nil
}

// Has reports whether the image is stored.
func (i *Importer) Has(_ context.Context, digest string) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.images[digest]
	return ok, nil
}

// Forget deletes an image, as a user of the image store may.
func (i *Importer) Forget(digest string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.images, digest)
}

// Imports is how many imports succeeded.
func (i *Importer) Imports() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.imports
}

// Maker makes a disk with the given content.
type Maker struct {
	Content []byte
	Err     error // after half of Content was written
	mu      sync.Mutex
	made    int
}

// Make writes the disk to out.
func (m *Maker) Make(_ context.Context, out string, _ event.Sink) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	content := m.Content
	if m.Err != nil {
		content = content[:len(content)/2]
	}
	if err := os.WriteFile(out, content, 0o600); err != nil {
		return err
	}
	if m.Err == nil {
		m.made++
	}
	return m.Err
}

// Made is how many disks were made.
func (m *Maker) Made() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made
}
