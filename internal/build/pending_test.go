package build

import "testing"

// A template that is added while it is worked waits until that is done.
func TestPendingTemplatesAreWorkedOnceAtATime(t *testing.T) {
	p := newPending()
	p.add("/T/One")
	first, ok := p.next()
	if !ok || first != "/T/One" {
		t.Fatalf("next: %q, %v", first, ok)
	}
	p.add("/t/one")
	p.add("/t/one")
	p.add("/t/two")
	if id, ok := p.next(); !ok || id != "/t/two" {
		t.Errorf("while one is worked the next is %q, %v", id, ok)
	}
	if id, ok := p.next(); ok {
		t.Errorf("%q is worked twice", id)
	}
	p.done(first)
	if id, ok := p.next(); !ok || id != "/t/one" {
		t.Errorf("after that the next is %q, %v", id, ok)
	}
	if id, ok := p.next(); ok {
		t.Errorf("%q waits twice", id)
	}
}
