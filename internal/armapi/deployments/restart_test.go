package deployments_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/store/memory"
)

const slowly = `"resources":[{"type":"Test.Slow/things","apiVersion":"2024-01-01","name":"one","location":"westus2"},
	{"type":"Test.Slow/things","apiVersion":"2024-01-01","name":"two","location":"westus2","dependsOn":["one"]}]`

// until waits for what another goroutine does soon.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to pass: " + what)
		}
	}
}

// begin starts a deployment that waits, and ends the service in the middle.
func begin(t *testing.T, db *memory.DB, body string) armapitest.Answer {
	t.Helper()
	w := &slow{release: make(chan struct{})}
	d := open(t, db, w)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	a := d.Want(201, "PUT", dep+"d", body)
	until(t, "the first resource is begun and its operation is kept", func() bool {
		return w.began("one") == 1 && strings.Contains(d.Do("GET", dep+"d/operations", "").Text, "things/one")
	})
	if a := d.Want(409, "PUT", dep+"d", body); a.Code() != "DeploymentActive" {
		t.Error(a.Text)
	}
	d.Want(409, "DELETE", dep+"d", "")
	d.API.Close()
	if w.began("two") != 0 {
		t.Error("the second resource did not wait")
	}
	return a
}

func TestRestart(t *testing.T) {
	db := memory.New()
	a := begin(t, db, request(slowly, ""))
	w := free()
	d := open(t, db, w)
	if err := d.API.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if end := d.Follow(a); end.Field("status") != "Succeeded" {
		t.Fatal(end.Text)
	}
	if w.began("two") != 1 || w.began("one") > 1 {
		t.Errorf("begun: %v", w.begun)
	}
	if a := d.Want(200, "GET", dep+"d", ""); a.Field("properties.provisioningState") != "Succeeded" {
		t.Error(a.Text)
	}
}

// What was secret is not kept, so the deployment cannot go on, and says why.
func TestRestartWithSecrets(t *testing.T) {
	db := memory.New()
	a := begin(t, db, request(`"parameters":{"k":{"type":"securestring"}},`+slowly, `"parameters":{"k":{"value":"hush"}},`))
	d := open(t, db, free())
	if err := d.API.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := d.Follow(a)
	if end.Field("status") != "Failed" || !strings.Contains(end.Text, "does not keep the values of secure parameters") {
		t.Error(end.Text)
	}
	if a := d.Want(200, "GET", dep+"d", ""); a.Field("properties.provisioningState") != "Failed" {
		t.Error(a.Text)
	}
}

func TestCancel(t *testing.T) {
	w := &slow{release: make(chan struct{})}
	d := open(t, memory.New(), w)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	a := d.Want(201, "PUT", dep+"d", request(slowly, ""))
	until(t, "the first resource is begun", func() bool { return w.began("one") == 1 })
	d.Want(204, "POST", dep+"d/cancel", "")
	if end := d.Follow(a); end.Field("status") != "Canceled" {
		t.Error(end.Text)
	}
	if a := d.Want(200, "GET", dep+"d", ""); a.Field("properties.provisioningState") != "Canceled" {
		t.Error(a.Text)
	}
	close(w.release)
	if w.began("two") != 0 {
		t.Error("the second resource was begun")
	}
	d.Want(404, "POST", dep+"none/cancel", "")
}

// A cancellation reaches the deployments inside.
func TestCancelNested(t *testing.T) {
	w := &slow{release: make(chan struct{})}
	d := open(t, memory.New(), w)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	inner := request(slowly, "")
	a := d.Want(201, "PUT", dep+"outer", request(`"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"inner",`+inner[1:len(inner)-1]+`}]`, ""))
	until(t, "the first resource is begun", func() bool { return w.began("one") == 1 })
	d.Want(204, "POST", dep+"outer/cancel", "")
	if end := d.Follow(a); end.Field("status") != "Canceled" {
		t.Error(end.Text)
	}
	until(t, "the inner deployment is cancelled", func() bool {
		return d.Want(200, "GET", dep+"inner", "").Field("properties.provisioningState") == "Canceled"
	})
	close(w.release)
}

// A group that goes takes its deployments with it, also those that run.
func TestGroupDeleted(t *testing.T) {
	w := &slow{release: make(chan struct{})}
	d := open(t, memory.New(), w)
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	a := d.Want(201, "PUT", dep+"d", request(slowly, ""))
	until(t, "the first resource is begun", func() bool { return w.began("one") == 1 })
	d.Follow(d.Want(202, "DELETE", rg, ""))
	close(w.release)
	if end := d.Follow(a); end.Field("status") != "Failed" && end.Field("status") != "Canceled" {
		t.Error(end.Text)
	}
	d.Want(404, "GET", dep+"d", "")
}
