package deployments_test

import (
	"fmt"
	"strings"
	"testing"

	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

// A template that deploys itself comes to an end.
func TestSelfNesting(t *testing.T) {
	d := door(t)
	end := d.Follow(d.Want(201, "PUT", dep+"d", request(`"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"[concat(deployment().name, 'x')]",
		"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"outer"},"template":"[deployment().properties.template]"}}]`, "")))
	if end.Field("status") != "Failed" || !strings.Contains(end.Text, "DeploymentFailed") {
		t.Error(end.Text)
	}
	d.Want(200, "GET", dep+"dxxxxx", "")
	d.Want(404, "GET", dep+"dxxxxxx", "")
	if a := d.Want(200, "GET", dep+"dxxxxx", ""); !strings.Contains(a.Text, "nested too deep") {
		t.Error(a.Text)
	}
}

// A full scope loses its oldest deployments that have ended, and no other.
func TestFullScope(t *testing.T) {
	db := memory.New()
	d := open(t, db, free())
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	for i := range 800 {
		state := "Succeeded"
		if i == 0 {
			state = "Running"
		}
		_, _, err := db.Resources().Put(t.Context(), resource.Record{
			ID: fmt.Sprintf("%sn%03d", dep, i), Type: "Microsoft.Resources/deployments", Name: fmt.Sprintf("n%03d", i), Internal: []byte(`{}`),
			Properties: fmt.Appendf(nil, `{"provisioningState":"%s","timestamp":"2024-01-01T00:%02d:%02d.0000000Z"}`, state, i/60, i%60),
		}, resource.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	d.Follow(d.Want(201, "PUT", dep+"new", request(`"resources":[]`, "")))
	for name, status := range map[string]int{"n000": 200, "n001": 404, "n050": 404, "n051": 200, "n799": 200, "new": 200} {
		d.Want(status, "GET", dep+name, "")
	}
	if a := d.Want(200, "GET", s+"/providers/Microsoft.Resources", ""); !strings.Contains(a.Text, `"apiVersions":["2025-04-01","2024-11-01"`) || !strings.Contains(a.Text, `"resourceType":"deployments"`) {
		t.Error(a.Text)
	}
}
